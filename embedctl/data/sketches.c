/* What a sketch is made of, in one pass over the texts where numpy needs ten; sketches.py says what it means. */

#include <stdint.h>
#include <string.h>

#define RUN_BYTES 24

static const uint64_t MIXERS[] = {0x9E3779B97F4A7C15u, 0xC2B2AE3D27D4EB4Fu, 0x165667B19E3779F9u};

/* As in xxHash64: eight bytes at a time, mixed. The words of eight bytes are little-endian. */
static uint64_t hash(const uint8_t *run) {
    uint64_t mixed = 0;
    for (int step = 0; step < RUN_BYTES / 8; step++) {
        uint64_t eight;
        memcpy(&eight, run + step * 8, 8);
        mixed ^= eight * MIXERS[step];
        mixed ^= mixed >> 29;
        mixed *= MIXERS[0];
    }
    return mixed ^ mixed >> 32;
}

/* joined: `size` bytes of UTF-8, the texts with 0xFF before, between and after them
   lower:  (256) what stands for each byte: itself, a small letter, a space, or 0 for 0xFF
   plain:  takes up to `size` bytes: small letters and single spaces, a zero for each 0xFF
   bounds: takes where the zeros are
   Returns how many bytes of `plain` there are. */
int64_t embedctl_plain(const uint8_t *joined, int64_t size, const uint8_t *lower, uint8_t *plain, int64_t *bounds) {
    int64_t n = 0;
    uint8_t before = 0;
    for (int64_t at = 0; at < size; at++) {
        uint8_t c = lower[joined[at]];
        /* Marks of U+2000 to U+203F part words as those of ASCII do. */
        if (c == 0xE2 && at + 2 < size && joined[at + 1] == 0x80 && (joined[at + 2] & 0xC0) == 0x80) {
            c = ' ';
            at += 2;
        }
        plain[n] = c;
        if (!c) *bounds++ = n;
        n += c != ' ' || before != ' ';
        before = c;
    }
    return n;
}

/* plain, bounds: as above, of `texts` texts
   hashes:        takes one for each run that begins with a word, up to half the bytes of `plain`
   ends:          (texts) takes how many hashes there are up to and with each text
   A text with fewer than `least` runs has none. */
void embedctl_hashes(const uint8_t *plain, const int64_t *bounds, int64_t texts, int64_t least, uint64_t *hashes,
                     uint64_t *ends) {
    int64_t n = 0;
    for (int64_t text = 0; text < texts; text++) {
        int64_t found = n;
        /* First where words begin, without a branch: a processor cannot foresee how long they are.
           The last of them have no whole run before the zero. */
        for (int64_t at = bounds[text] + 1; at <= bounds[text + 1] - RUN_BYTES; at++) {
            hashes[found] = (uint64_t)at;
            found += plain[at] > ' ' && plain[at - 1] <= ' ';
        }
        if (found - n >= least)
            for (; n < found; n++) hashes[n] = hash(plain + hashes[n]);
        ends[text] = (uint64_t)n;
    }
}
