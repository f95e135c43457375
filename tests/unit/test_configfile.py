"""The YAML file and the references to the environment in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaglider_core.configfile import expand, find_config, parse_config, read_config
from deltaglider_core.errors import ConfigurationError


def parse(text: str, **environ: str) -> dict[str, Any]:
    return parse_config(text, environ, source="file.yaml")


def test_the_flag_beats_the_variable_beats_the_search(tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    assert find_config(missing, {"DGP_CONFIG": "other"}, tmp_path) == missing
    assert find_config(None, {"DGP_CONFIG": "/absent/f.yaml"}, tmp_path) == Path("/absent/f.yaml")
    (tmp_path / "deltaglider_proxy.yml").touch()
    assert find_config(None, {}, tmp_path) == tmp_path / "deltaglider_proxy.yml"
    (tmp_path / "deltaglider_proxy.yaml").touch()
    assert find_config(None, {}, tmp_path) == tmp_path / "deltaglider_proxy.yaml"


def test_a_dangling_link_is_found_and_not_taken_for_no_file(tmp_path: Path) -> None:
    (tmp_path / "deltaglider_proxy.yaml").symlink_to("nowhere")
    found = find_config(None, {}, tmp_path)
    assert found is not None
    with pytest.raises(ConfigurationError) as caught:
        read_config(found, {})
    assert caught.value.exit_code == 3


def test_an_empty_variable_names_no_file() -> None:
    with pytest.raises(ConfigurationError, match="DGP_CONFIG is empty"):
        find_config(None, {"DGP_CONFIG": ""})


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n", "null\n", "\ufeff"])
def test_an_empty_file_is_an_empty_configuration(tmp_path: Path, text: str) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text(text, encoding="utf-8")
    assert read_config(path, {}) == {}


@pytest.mark.parametrize(
    ("name", "content", "words", "code"),
    [
        ("missing.yaml", None, "No such file", 3),
        ("old.toml", b"[access]\n", "TOML", 4),
        ("OLD.TOML", b"", "TOML", 4),
        ("latin.yaml", b"a: \xe4\n", "not UTF-8 at byte 3", 4),
        ("big.yaml", b"#" * (1024 * 1024 + 1), "at most 1048576 bytes", 4),
    ],
)
def test_an_unusable_file_says_why(
    tmp_path: Path, name: str, content: bytes | None, words: str, code: int
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=words) as caught:
        read_config(path, {})
    assert caught.value.exit_code == code
    assert str(path) in str(caught.value)


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_config(tmp_path, {})
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("access:\n  a: 1\n  a: 2\n", r"^file\.yaml:3:3: the key 'a' occurs twice$"),
        ("a: 1\n'a': 2\n", r"^file\.yaml:2:1: the key 'a' occurs twice$"),
        ("a: [1, 2\n", r"^file\.yaml:2:1: "),
        ("a: b: c\n", r"^file\.yaml:1:5: "),
        ("- a\n- b\n", "must be a mapping"),
        ("just words\n", "must be a mapping"),
        ("a: !!python/object/apply:os.system [id]\n", "could not determine a constructor"),
        ("a: !!binary '\u00e4'\n", "failed to convert base64"),
        ("? [1, 2]\n: x\n", "a key must be a plain word"),
        ("a: 2026-13-45\n", r"^file\.yaml:1:4: the value is no timestamp$"),
        ('a: !!int ""\n', r"^file\.yaml:1:4: the value is no int$"),
        ('a: !!float ""\n', "the value is no float"),
        ("a: !!bool x\n", "the value is no bool"),
        ("a: !!timestamp x\n", "the value is no timestamp"),
        ("a: 1\n---\nb: 2\n", "single document|but found another document"),
        ("a: \x07\n", "file.yaml: "),
        ("a: *nothing\n", "undefined alias"),
        ("a: &a [*a]\n", "an alias contains itself"),
    ],
)
def test_broken_yaml_is_named_with_its_place(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        parse(text)
    assert caught.value.exit_code == 4


def test_aliases_work_but_not_as_a_bomb() -> None:
    assert parse("a: &x {k: 1}\nb: *x\nc: {<<: *x, m: 2}\n") == {
        "a": {"k": 1},
        "b": {"k": 1},
        "c": {"k": 1, "m": 2},
    }
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
    )
    with pytest.raises(ConfigurationError, match="more than 100000 values"):
        parse(bomb)


@pytest.mark.parametrize("text", ["[" * 50_000, "a: " + "{b: " * 20_000 + "1" + "}" * 20_000])
def test_deep_nesting_is_an_error_and_no_crash(text: str) -> None:
    with pytest.raises(ConfigurationError, match="nested too deeply"):
        parse(text)


def test_references_are_expanded_after_parsing() -> None:
    text = (
        "# ${env:IN_A_COMMENT} is not looked at\n"
        "access:\n"
        "  secret_access_key: ${env:SECRET}\n"
        "  access_key_id: 'pre-${env:KEY}-post'\n"
    )
    secret = "x: y # \"'{[&*!|>%@`"
    assert parse(text, SECRET=secret, KEY="k") == {
        "access": {"secret_access_key": secret, "access_key_id": "pre-k-post"}
    }


def test_a_value_cannot_add_keys_and_stays_text() -> None:
    document = parse("a: ${env:V}\n", V="1, authentication: none")
    assert document == {"a": "1, authentication: none"}
    # As text, so that a secret of digits keeps its zeros; pydantic converts where it must.
    assert parse("a: ${env:V}\n", V="0123") == {"a": "0123"}


def test_an_empty_plain_scalar_is_null_as_in_yaml() -> None:
    assert parse("a: ${env:V:-}\nb: '${env:V:-}'\n") == {"a": None, "b": ""}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("${env:SET}", "value"),
        ("${env:SET}${env:SET}", "valuevalue"),
        ("${env:UNSET:-fallback}", "fallback"),
        ("${env:EMPTY:-fallback}", "fallback"),
        ("${env:EMPTY}", ""),
        ("${env:UNSET:-}", ""),
        ("${env:UNSET:-a:-b}", "a:-b"),
        ("$$", "$"),
        ("$${env:SET}", "${env:SET}"),
        ("$$$${env:SET}", "$${env:SET}"),
        ("$$${env:SET}", "$value"),
        ("${iam:username}/x", "${iam:username}/x"),
        ("a$b $ c$", "a$b $ c$"),
        ("${env:NESTED}", "${env:SET}"),
    ],
)
def test_expansion(text: str, expanded: str) -> None:
    environ = {"SET": "value", "EMPTY": "", "NESTED": "${env:SET}"}
    assert expand(text, environ) == expanded


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${env:UNSET}", "UNSET is not set"),
        ("${env:1X}", "'1X' is not the name"),
        ("${env:}", "'' is not the name"),
        ("${env:A B}", "'A B' is not the name"),
        ("${env:SET", "not closed"),
        ("${", "not closed"),
        ("${other", "not closed"),
        ("${env:CONTROL}", "CONTROL has control characters"),
    ],
)
def test_a_bad_reference_is_an_error_without_the_value(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        expand(text, {"SET": "secret-value", "CONTROL": "secret-value\n"})
    assert "secret-value" not in str(caught.value)


def test_a_missing_variable_is_named_with_its_line() -> None:
    with pytest.raises(ConfigurationError, match=r"^file\.yaml:2:6: .* NOPE is not set"):
        parse("a:\n  b: ${env:NOPE}\n")


@settings(deadline=None, max_examples=200)
@given(value=st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])))
def test_any_value_round_trips(value: str) -> None:
    assert parse("a: {b: '${env:V}'}\n", V=value) == {"a": {"b": value}}


@settings(deadline=None, max_examples=300)
@given(text=st.text(alphabet="ab:-#'\"[]{}&*!|>%\n ?$,\u00e4", max_size=60))
def test_any_text_is_a_document_or_one_clear_error(text: str) -> None:
    try:
        document: object = parse(text, **os.environ)
    except ConfigurationError as error:
        document, code = str(error), error.exit_code
    if isinstance(document, str):
        assert code == 4
        assert document.startswith("file.yaml")
        assert "\n" not in document
    else:
        assert isinstance(document, dict)
