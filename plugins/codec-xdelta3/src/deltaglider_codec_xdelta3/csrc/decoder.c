/* Decodes the instructions of one VCDIFF window (RFC 3284, section 5) from memory to memory.
 *
 * xdelta3's own decoder is a streaming state machine that allocates what a header asks for.
 * Stored bytes are untrusted, so this one allocates nothing, writes only to target[0..size)
 * and accepts only what is consistent to the last byte. The caller has parsed the window's
 * header and passes its three sections.
 *
 * Included after encoder.c, for the code table of the RFC and the integer type names. */

#define DGX_NEAR 4
#define DGX_SAME 3

typedef struct {
    const uint8_t *next;
    const uint8_t *end;
} dgx_reader;

typedef struct {
    uint64_t near_cache[DGX_NEAR];
    uint64_t same_cache[DGX_SAME * 256];
    unsigned next_slot;
} dgx_addresses;

static dgx_reader dgx_reader_of(dgx_bytes bytes)
{
    return (dgx_reader){bytes.data, bytes.data + bytes.size};
}

static size_t dgx_left(const dgx_reader *reader) { return (size_t) (reader->end - reader->next); }

/* Base-128 integer, most significant group first (RFC 3284, section 2). */
static int dgx_read_integer(dgx_reader *reader, uint64_t *value)
{
    uint64_t result = 0;
    uint8_t byte;

    do {
        if (reader->next == reader->end || result > UINT64_MAX >> 7)
            return 0;
        byte = *reader->next++;
        result = result << 7 | (byte & 127);
    } while (byte & 128);
    *value = result;
    return 1;
}

/* Address of a COPY (RFC 3284, section 5.3); always below here when 1 is returned. */
static int dgx_read_address(dgx_reader *reader, dgx_addresses *cache, unsigned mode,
                            uint64_t here, uint64_t *address)
{
    uint64_t value;

    if (mode < 2 + DGX_NEAR) {
        uint64_t base = 0;

        if (!dgx_read_integer(reader, &value))
            return 0;
        if (mode == VCD_HERE) {
            if (value > here)
                return 0;
            base = here - value;
            value = 0;
        } else if (mode != VCD_SELF) {
            base = cache->near_cache[mode - 2];
        }
        if (base >= here || value >= here - base)
            return 0;
        value += base;
    } else {
        if (reader->next == reader->end)
            return 0;
        value = cache->same_cache[(mode - 2 - DGX_NEAR) * 256 + *reader->next++];
        if (value >= here)
            return 0;
    }
    cache->near_cache[cache->next_slot] = value;
    cache->next_slot = (cache->next_slot + 1) % DGX_NEAR;
    cache->same_cache[value % (DGX_SAME * 256)] = value;
    *address = value;
    return 1;
}

/* Copies within the target, byte after byte in effect: source and destination may overlap,
 * which repeats the bytes between them. */
static void dgx_copy_within(uint8_t *target, size_t from, size_t to, size_t size)
{
    size_t distance = to - from;

    while (size > 0) {
        size_t part = size < distance ? size : distance;

        memcpy(target + to, target + from, part);
        to += part;
        size -= part;
        distance += part;
    }
}

/* Returns 1 if the sections give exactly target_size bytes and are used up, else 0. */
static int dgx_decode(dgx_bytes source, dgx_bytes data, dgx_bytes instructions,
                      dgx_bytes addresses, uint8_t *target, size_t target_size)
{
    const xd3_dinst *table = xd3_rfc3284_code_table();
    dgx_reader adds = dgx_reader_of(data);
    dgx_reader codes = dgx_reader_of(instructions);
    dgx_reader places = dgx_reader_of(addresses);
    dgx_addresses cache;
    size_t done = 0;

    memset(&cache, 0, sizeof cache);
    while (codes.next != codes.end) {
        const xd3_dinst *entry = &table[*codes.next++];

        for (int half = 0; half < 2; half++) {
            unsigned type = half ? entry->type2 : entry->type1;
            uint64_t size = half ? entry->size2 : entry->size1;
            uint64_t address;

            if (type == XD3_NOOP)
                continue;
            if (size == 0 && !dgx_read_integer(&codes, &size))
                return 0;
            if (size > target_size - done)
                return 0;
            if (type == XD3_ADD) {
                if (size > dgx_left(&adds))
                    return 0;
                memcpy(target + done, adds.next, size);
                adds.next += size;
            } else if (type == XD3_RUN) {
                if (dgx_left(&adds) == 0)
                    return 0;
                memset(target + done, *adds.next++, size);
            } else {
                if (!dgx_read_address(&places, &cache, type - XD3_CPY, source.size + done,
                                      &address))
                    return 0;
                if (address >= source.size)
                    dgx_copy_within(target, address - source.size, done, size);
                else if (size <= source.size - address)
                    memcpy(target + done, source.data + address, size);
                else
                    return 0; /* no encoder copies across the border of source and target */
            }
            done += size;
        }
    }
    return done == target_size && dgx_left(&adds) == 0 && dgx_left(&places) == 0;
}
