/* Where tokens begin, what ends before each of them, and where texts are cut: one pass each, where numpy needs many.
   boundaries.py and chunks.py say what is meant, and do the same where this was not built. */

#include <stdint.h>
#include <string.h>

/* As in boundaries.py. */
enum { INSIDE, NO_BOUNDARY, WORD, SENTENCE, PARAGRAPH };
enum { OTHER, SPACE, NEWLINE, STOP, WIDE_STOP, CLOSING, LOWER, UPPER };

/* size bytes of texts in UTF-8, each followed by 0xFF; classes: what each of 2^16 characters is to a sentence */
typedef struct {
    const uint8_t *data;
    int64_t size;
    const uint8_t *classes;
    uint8_t plain[256];
} Texts;

static int is_space(uint8_t byte) { return byte <= ' '; }

static int is_inside(uint8_t byte) { return (byte & 0xC0) == 0x80; }

/* Where the character before `at` begins; below 0 there is none. */
static int64_t before(const Texts *texts, int64_t at) {
    at--;
    for (int step = 0; step < 3 && at >= 0 && is_inside(texts->data[at]); step++) at--;
    return at;
}

static int class_at(const Texts *texts, int64_t at) {
    if (at < 0 || at >= texts->size) return NEWLINE;
    const uint8_t *one = texts->data + at;
    if (*one < 0x80) return texts->classes[*one];
    if (*one == 0xFF) return NEWLINE;
    if (*one < 0xC2) return OTHER;
    /* The separator behind the last text is part of no character. */
    uint32_t code = *one < 0xE0 ? (*one & 0x1Fu) << 6 | (one[1] & 0x3F)
                  : *one < 0xF0 ? (*one & 0x0Fu) << 12 | (one[1] & 0x3Fu) << 6 | (one[2] & 0x3F)
                                : 0xFFFF;
    return texts->classes[code];
}

/* Whether a sentence ends before the white space from `begin` to `end`: a stop, closed or not, and no small letter
   after. A stop after a single capital is an initial ("J. Smith"). */
static int ends_sentence(const Texts *texts, int64_t begin, int64_t end) {
    int64_t at = before(texts, begin);
    int first = class_at(texts, at);
    if (first != STOP && first != WIDE_STOP && first != CLOSING) return 0;
    at = before(texts, at);
    int second = class_at(texts, at), third = at < 0 ? NEWLINE : class_at(texts, before(texts, at));
    int stop = first != CLOSING || second == STOP || second == WIDE_STOP || (second == CLOSING && third == STOP);
    int initial = first == STOP && second == UPPER && (third == SPACE || third == NEWLINE || third == STOP);
    return stop && !initial && class_at(texts, end) != LOWER;
}

/* Whether scripts without spaces end a sentence before the character at `at`. */
static int after_wide_stop(const Texts *texts, int64_t at) {
    if (texts->data[at - 1] < 0x80 && texts->classes[texts->data[at - 1]] != CLOSING) return 0;
    int64_t last = before(texts, at);
    int kind = class_at(texts, last);
    if (kind == CLOSING) kind = class_at(texts, before(texts, last));
    if (kind != WIDE_STOP) return 0;
    kind = class_at(texts, at);
    return kind == OTHER || kind == LOWER || kind == UPPER;
}

static int kind_of_run(const Texts *texts, int64_t begin, int64_t end) {
    int newlines = 0;
    for (int64_t at = begin; at < end; at++) newlines += texts->data[at] == '\n';
    return newlines >= 2 ? PARAGRAPH : ends_sentence(texts, begin, end) ? SENTENCE : WORD;
}

/* Takes where a text ends, in `ends`, of which there are `count` at most, and all bytes with which no character begins. Returns
   how many these are. Most texts are ASCII, and passed over by eights. */
int64_t embedctl_marks(const uint8_t *data, int64_t size, int64_t count, int64_t *ends, int64_t *inner) {
    int64_t texts = 0, many = 0;
    for (int64_t at = 0; at < size;) {
        uint64_t eight;
        if (size - at >= 8 && (memcpy(&eight, data + at, 8), !(eight & 0x8080808080808080u))) {
            at += 8;
            continue;
        }
        for (int64_t stop = size - at < 8 ? size : at + 8; at < stop; at++) {
            if (is_inside(data[at])) inner[many++] = at;
            else if (data[at] == 0xFF && texts < count) ends[texts++] = at;
        }
    }
    return many;
}

/* What ends just before a token, where token 0 is the first of all texts. */
static int kind_of(const Texts *texts, const int64_t *starts, int64_t token) {
    const uint8_t *data = texts->data;
    int64_t at = starts[token];
    if (token && at && at != starts[token - 1] && at + 1 < texts->size) {
        /* Nearly all stand inside a word, or at the one blank between two; without a branch, as either is likely. */
        int here = data[at], blank = (here == ' ') & (data[at + 1] > ' ');
        if (texts->plain[data[at - 1]] & (blank | ((here > ' ') & (here < 0x7F)))) return NO_BOUNDARY + blank;
    }
    if (is_inside(data[at])) return INSIDE;
    if (at == 0 || (token && starts[token - 1] == at)) return NO_BOUNDARY;
    int here = is_space(data[at]), left = is_space(data[at - 1]);
    if (after_wide_stop(texts, at)) return SENTENCE;
    if (here && !left) {
        int64_t end = at + 1;
        while (is_space(data[end])) end++;
        return kind_of_run(texts, at, end);
    }
    /* Where the white space before is a token of its own, the cut is before that one. */
    if (here || !left || (token && is_space(data[starts[token - 1]]))) return NO_BOUNDARY;
    int64_t begin = at - 1;
    while (begin > 0 && is_space(data[begin - 1])) begin--;
    return kind_of_run(texts, begin, at);
}

/* What of ASCII ends nothing but words: all but white space, stops and what closes. */
static Texts texts_of(const uint8_t *data, int64_t size, const uint8_t *classes) {
    Texts texts = {data, size, classes, {0}};
    for (int byte = '!'; byte < 0x7F; byte++) texts.plain[byte] = classes[byte] != STOP && classes[byte] != CLOSING;
    return texts;
}

/* starts: of each of `tokens` tokens; takes in `kinds` what ends just before it */
void embedctl_boundaries(const uint8_t *data, int64_t size, const uint8_t *classes, const int64_t *starts,
                         int64_t tokens, uint8_t *kinds) {
    const Texts texts = texts_of(data, size, classes);
    for (int64_t token = 0; token < tokens; token++) kinds[token] = (uint8_t)kind_of(&texts, starts, token);
}

/* Whether there are two ends of line in any run of white space that touches the bytes from `begin` to `end`. */
static int has_paragraph(const Texts *texts, int64_t begin, int64_t end) {
    const uint8_t *data = texts->data;
    int64_t at = begin;
    while (at < end && is_space(data[at])) at++;
    /* In the midst of a run there is no end of one; to look for its ends each time would take square time. */
    if (at == end && begin > 0 && is_space(data[begin - 1]) && is_space(data[end])) return 0;
    while (begin > 0 && is_space(data[begin - 1])) begin--;
    while (is_space(data[end])) end++; /* a separator ends the last run */
    while (begin < end) {
        const uint8_t *found = memchr(data + begin, '\n', (size_t)(end - begin));
        if (!found) return 0;
        for (begin = found - data + 1; begin < end && is_space(data[begin]); begin++)
            if (data[begin] == '\n') return 1;
    }
    return 0;
}

/* The last token from `low` to `high` (inclusive) of this kind; below `low`: there is none. */
static int64_t last_of(const Texts *texts, const int64_t *starts, int kind, int64_t low, int64_t high) {
    while (high >= low && kind_of(texts, starts, high) != kind) high--;
    return high;
}

static int64_t larger(int64_t one, int64_t other) { return one > other ? one : other; }

static int64_t end_of(const Texts *texts, const int64_t *starts, int64_t first, int64_t size, int64_t overlap) {
    int64_t limit = first + size, least = first + overlap + 1;
    const struct { int kind; int64_t full; } wanted[] = {{PARAGRAPH, size / 2}, {SENTENCE, size / 3}, {WORD, 0}};
    for (int n = 0; n < 3; n++) {
        int64_t low = larger(least, first + wanted[n].full);
        if (n == 0 && low <= limit && !has_paragraph(texts, starts[low], starts[limit])) continue;
        int64_t found = last_of(texts, starts, wanted[n].kind, low, limit);
        if (found >= low) return found;
    }
    while (limit > least && kind_of(texts, starts, limit) == INSIDE) limit--;
    return limit;
}

static int64_t start_after(const Texts *texts, const int64_t *starts, int64_t last, int64_t overlap) {
    const int least[] = {SENTENCE, WORD};
    for (int n = 0; n < 2; n++)
        for (int64_t at = last - overlap; at <= last; at++)
            if (kind_of(texts, starts, at) >= least[n]) return at;
    int64_t at = last - overlap;
    while (at < last && kind_of(texts, starts, at) == INSIDE) at++;
    return at;
}

/* Text n has the tokens offsets[n] to offsets[n + 1]; takes for each chunk its text, its number in it, its first
   token and the one after its last, and whether words end at both. There are at most as many chunks as tokens. What ends
   before a token is looked at only where that may decide something. Returns how many there are. */
int64_t embedctl_cut(const uint8_t *data, int64_t data_size, const uint8_t *classes, const int64_t *starts,
                     const int64_t *offsets, int64_t count, int64_t size, int64_t overlap, int64_t *text, int64_t *number,
                     int64_t *first, int64_t *last, uint8_t *begins, uint8_t *ends) {
    const Texts texts = texts_of(data, data_size, classes);
    int64_t chunks = 0;
    for (int64_t n = 0; n < count; n++) {
        int64_t begin = offsets[n], end = offsets[n + 1];
        for (int64_t own = 0; begin < end; own++, chunks++) {
            int64_t stop = end - begin > size ? end_of(&texts, starts, begin, size, overlap) : end;
            text[chunks] = n;
            number[chunks] = own;
            first[chunks] = begin;
            last[chunks] = stop;
            begins[chunks] = own == 0 || kind_of(&texts, starts, begin) > NO_BOUNDARY;
            ends[chunks] = stop == end || kind_of(&texts, starts, stop) > NO_BOUNDARY;
            begin = stop < end ? start_after(&texts, starts, stop, overlap) : end;
        }
    }
    return chunks;
}

/* Byte-level tokens stand for all bytes of a text, one after the other.
   lengths: the bytes of each of `words` tokens of the vocabulary
   bases, sizes: where each text begins, and its bytes
   Takes where each token begins, and for each text whether its tokens are not as many bytes as it has. */
void embedctl_starts(const uint32_t *ids, const int64_t *offsets, int64_t count, const int32_t *lengths,
                     int64_t words, const int64_t *bases, const int64_t *sizes, int64_t *starts, uint8_t *failed) {
    for (int64_t n = 0; n < count; n++) {
        int64_t at = bases[n];
        for (int64_t token = offsets[n]; token < offsets[n + 1]; token++) {
            starts[token] = at;
            /* An id that is in no vocabulary makes the sum come out wrong. */
            at += ids[token] < words ? lengths[ids[token]] : sizes[n] + 1;
        }
        failed[n] = at != bases[n] + sizes[n];
    }
}

static uint8_t *put(uint8_t *out, const uint32_t *ids, int64_t count, int bytes) {
    if (bytes == 4) memcpy(out, ids, (size_t)count * 4);
    else for (int64_t n = 0; n < count; n++) ((uint16_t *)out)[n] = (uint16_t)ids[n];
    return out + count * bytes;
}

/* The ids of each chunk between `before_ids` and `after_ids`, one after the other, in `bytes` each: 2 or 4. */
void embedctl_framed(const uint32_t *ids, const int64_t *first, const int64_t *last, int64_t chunks,
                     const uint32_t *before_ids, int64_t many_before, const uint32_t *after_ids, int64_t many_after,
                     uint8_t *out, int64_t bytes) {
    for (int64_t n = 0; n < chunks; n++) {
        out = put(out, before_ids, many_before, (int)bytes);
        out = put(out, ids + first[n], last[n] - first[n], (int)bytes);
        out = put(out, after_ids, many_after, (int)bytes);
    }
}
