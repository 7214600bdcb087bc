/* What a sketch is made of, in one pass over the texts where numpy needs ten; sketches.py says what it means. */

#include <stdint.h>
#include <string.h>

#define RUN_BYTES 24
#define PLACES 64

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

/* Whether a character of U+2000 to U+203F begins here; the texts end with a byte that is part of none. */
static int is_mark(const uint8_t *at) { return at[0] == 0xE2 && at[1] == 0x80 && (at[2] & 0xC0) == 0x80; }

/* joined:  `size` bytes of UTF-8, the texts with 0xFF before, between and after them
   foreign: takes for each text whether it has characters that are neither ASCII nor of U+2000 to U+203F
   Returns how many have. */
int64_t embedctl_foreign(const uint8_t *joined, int64_t size, uint8_t *foreign) {
    int64_t text = -1, many = 0;
    for (int64_t at = 0; at < size; at++) {
        uint64_t eight;
        while (at + 8 <= size && (memcpy(&eight, joined + at, 8), !(eight & 0x8080808080808080u))) at += 8;
        if (at == size || joined[at] < 0x80) continue;
        if (joined[at] == 0xFF) {
            if (at + 1 < size) foreign[++text] = 0;
        } else if (is_mark(joined + at)) {
            at += 2;
        } else {
            many += !foreign[text];
            foreign[text] = 1;
        }
    }
    return many;
}

/* joined: as above
   lower:  (256) what stands for each byte: itself, a small letter, a space, or 0 for 0xFF
   plain:  takes up to `size` bytes: small letters and single spaces, a zero for each 0xFF
   bounds: takes where the zeros are
   starts: takes where words begin, in up to half of `size` numbers and one more
   Returns how many bytes of `plain` there are. */
int64_t embedctl_plain(const uint8_t *joined, int64_t size, const uint8_t *lower, uint8_t *plain, int64_t *bounds,
                       int64_t *starts) {
    int64_t n = 0;
    uint8_t before = 0;
    for (int64_t at = 0; at < size; at++) {
        uint8_t c = lower[joined[at]];
        /* Marks of U+2000 to U+203F part words as those of ASCII do. */
        if (is_mark(joined + at)) {
            c = ' ';
            at += 2;
        }
        plain[n] = c;
        /* Without a branch: a processor cannot foresee how long words are. */
        *starts = n;
        starts += c > ' ' && before <= ' ';
        if (!c) *bounds++ = n;
        n += c != ' ' || before != ' ';
        before = c;
    }
    *starts = n;
    return n;
}

/* plain, bounds, starts: as above, of `texts` texts
   hashes: takes one for each run that begins with a word, at most as many as there are words
   ends:   (texts) takes how many hashes there are up to and with each text
   A text with fewer than `least` runs has none. */
void embedctl_hashes(const uint8_t *plain, const int64_t *bounds, const int64_t *starts, int64_t texts, int64_t least,
                     uint64_t *hashes, uint64_t *ends) {
    uint64_t n = 0;
    for (int64_t text = 0; text < texts; text++) {
        const uint64_t first = n;
        /* The last words of a text have no whole run before the zero. */
        for (; *starts <= bounds[text + 1] - RUN_BYTES; starts++) hashes[n++] = hash(plain + *starts);
        while (*starts < bounds[text + 1]) starts++;
        if (n - first < (uint64_t)least) n = first;
        ends[text] = n;
    }
}

/* Without a branch and without order the compiler does many places at once; with AVX, where the processor has it. */
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define WIDE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDE
#endif

/* hashes, ends: as above
   factors, addends: (PLACES) of the permutations of 32-bit numbers
   signatures: (texts, PLACES) takes of each text with runs the least number that each permutation makes of a hash */
WIDE void embedctl_minima(const uint64_t *hashes, const uint64_t *ends, int64_t texts, const uint32_t *factors,
                          const uint32_t *addends, uint32_t *signatures) {
    uint64_t n = 0;
    for (int64_t text = 0; text < texts; text++, signatures += PLACES) {
        if (n == ends[text]) continue;
        uint32_t least[PLACES];
        memset(least, 0xFF, sizeof least);
        for (; n < ends[text]; n++) {
            const uint32_t hash = (uint32_t)hashes[n];
            for (int place = 0; place < PLACES; place++) {
                const uint32_t found = hash * factors[place] + addends[place];
                least[place] = found < least[place] ? found : least[place];
            }
        }
        memcpy(signatures, least, sizeof least);
    }
}
