"""Events of objects as lines of JSON in a file."""
