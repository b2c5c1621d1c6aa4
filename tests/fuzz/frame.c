/* Frames between a worker and a plugin: fed in any pieces they give the same objects, what
 * is given out can be sent again and is read as the same; a sealed secret opens only whole,
 * and only for what it was sealed for.
 *
 * Input: one byte for the size of the pieces, one that says what is changed in a sealed
 * value, then the stream. */
#include "plugin/frame.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/seal.h"
#include "lib/fuzz.h"

/* Reads the stream in pieces; appends the frames as text, "!" where it is broken. */
static void read_in(const uint8_t *p, size_t n, size_t piece, struct hp_buf *out)
{
	struct hp_error err = {0};
	struct hp_frames f;
	json_t *v = NULL;
	bool broken = false;

	hp_frames_init(&f);
	for (size_t at = 0; at < n && !broken; at += piece) {
		int got = hp_frames_feed(&f, p + at, n - at < piece ? n - at : piece, &err);

		while (got == 0 && (got = hp_frames_next(&f, &v, &err)) == 1) {
			MUST(json_is_object(v));
			MUST(hp_json_write(out, v, &err) == 0, "%s", err.message);
			hp_buf_addc(out, '\n');
			json_decref(v);
			got = 0;
		}
		broken = got < 0;
	}
	if (broken) {
		must_explain(&err);
		hp_buf_addc(out, '!');
	}
	hp_frames_free(&f);
}

static void send_again(const struct hp_buf *texts)
{
	struct hp_input in = {(const uint8_t *)texts->p, texts->n};
	struct hp_error err = {0};
	struct hp_buf stream, again;

	hp_buf_init(&stream, HP_PLUGIN_FRAME_MAX);
	hp_buf_init(&again, HP_PLUGIN_FRAME_MAX);
	while (in.n > 0 && *in.p != '!') {
		struct hp_bytes line = in_until(&in, '\n');

		MUST(hp_frame_add(&stream, hp_json_parse(line.p, line.n, "a frame", &err), &err) == 0, "%s", err.message);
	}
	read_in((const uint8_t *)stream.p, stream.n, 1 + stream.n / 2, &again);
	MUST(again.n + in.n == texts->n && memcmp(hp_buf_str(&again), hp_buf_str(texts), again.n) == 0,
	     "sent again it is another");
	hp_buf_free(&stream);
	hp_buf_free(&again);
}

static void check_seal(struct hp_bytes value, uint8_t change)
{
	struct hp_seal_for mine = {"fuzz", "KEY", 3}, other = {"fuzz", "KEY", 4};
	struct hp_seal_keys keys = {0};
	struct hp_error err = {0};
	struct hp_buf sealed, open;

	hp_buf_init(&sealed, value.n + HP_SEAL_OVERHEAD);
	hp_buf_init(&open, value.n);
	MUST(hp_seal_keys_parse(&keys, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n", &err) == 0);
	MUST(hp_seal(&keys, &mine, value, &sealed, &err) == 0, "%s", err.message);
	MUST(hp_seal_open(&keys, &mine, hp_buf_bytes(&sealed), &open, &err) == 0, "%s", err.message);
	MUST(open.n == value.n && memcmp(hp_buf_str(&open), value.n ? value.p : "", open.n) == 0);
	hp_buf_clear(&open);
	MUST(hp_seal_open(&keys, &other, hp_buf_bytes(&sealed), &open, &err) < 0, "opened for another version");
	MUST(hp_seal_open(&keys, &mine, (struct hp_bytes){sealed.p, sealed.n - 1}, &open, &err) < 0, "opened cut");
	sealed.p[change % sealed.n] ^= 1;
	MUST(hp_seal_open(&keys, &mine, hp_buf_bytes(&sealed), &open, &err) < 0, "opened, and changed");
	MUST(hp_seal_open(&keys, &mine, value, &open, &err) < 0, "opened what nobody sealed");
	must_explain(&err);
	MUST(open.n == 0, "something came out of what does not open");
	hp_buf_free(&sealed);
	hp_buf_free(&open);
}

HP_FUZZ(frame)
{
	struct hp_input in = {p, n};
	size_t piece = (size_t)in_byte(&in) + 1;
	uint8_t change = in_byte(&in);
	struct hp_buf whole, pieces;

	hp_buf_init(&whole, 64 * n + 1024);
	hp_buf_init(&pieces, 64 * n + 1024);
	read_in(in.p, in.n, in.n + 1, &whole);
	read_in(in.p, in.n, piece, &pieces);
	MUST(whole.n == pieces.n && memcmp(hp_buf_str(&whole), hp_buf_str(&pieces), whole.n) == 0,
	     "in pieces it is another stream");
	send_again(&whole);
	if (in.n < 4096)
		check_seal((struct hp_bytes){(const char *)in.p, in.n}, change);
	hp_buf_free(&whole);
	hp_buf_free(&pieces);
}
