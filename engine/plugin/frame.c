/* frame.c: frames in and out. The other side may be broken: trust nothing. */
#include "plugin/frame.h"

#include <stdint.h>
#include <string.h>
#include "base/json.h"
#include "base/limits.h"

#define HEAD 4

void hp_frames_init(struct hp_frames *f)
{
	hp_buf_init(&f->in, 2 * (HEAD + (size_t)HP_PLUGIN_FRAME_MAX));
	f->at = 0;
}

void hp_frames_free(struct hp_frames *f)
{
	hp_buf_free(&f->in);
	f->at = 0;
}

int hp_frames_feed(struct hp_frames *f, const void *p, size_t n, struct hp_error *err)
{
	if (f->at > 0) { /* what was given out makes room */
		memmove(f->in.p, f->in.p + f->at, f->in.n - f->at);
		f->in.n -= f->at;
		f->at = 0;
	}
	hp_buf_add(&f->in, p, n);
	return hp_buf_check(&f->in, "what a plugin's process sent", err);
}

int hp_frames_next(struct hp_frames *f, json_t **out, struct hp_error *err)
{
	const unsigned char *p = (const unsigned char *)f->in.p + f->at;
	size_t left = f->in.n - f->at;
	uint32_t n;

	*out = NULL;
	if (left < HEAD)
		return 0;
	n = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
	if (n == 0 || n > HP_PLUGIN_FRAME_MAX)
		return hp_fail(err, HP_E_INVALID, "a frame of %u bytes was announced; frames have 1 to %d", (unsigned)n,
			       HP_PLUGIN_FRAME_MAX);
	if (left - HEAD < n)
		return 0;
	*out = hp_json_parse((const char *)p + HEAD, n, "a frame", err);
	if (!*out)
		return -1;
	f->at += HEAD + n;
	if (json_is_object(*out))
		return 1;
	json_decref(*out);
	*out = NULL;
	return hp_fail(err, HP_E_INVALID, "a frame holds no JSON object");
}

int hp_frame_add(struct hp_buf *out, json_t *v, struct hp_error *err)
{
	struct hp_buf text;
	unsigned char head[HEAD];
	size_t before = out->n;
	int rc = -1;

	hp_buf_init(&text, HP_PLUGIN_FRAME_MAX);
	if (!v) {
		hp_fail(err, HP_E_NOMEM, "no memory left for a frame, or its text is not UTF-8");
		goto out;
	}
	if (hp_json_write(&text, v, err) != 0)
		goto out;
	for (int i = 0; i < HEAD; i++)
		head[i] = (unsigned char)(text.n >> (8 * (HEAD - 1 - i)));
	hp_buf_add(out, head, HEAD);
	hp_buf_add(out, text.p, text.n);
	rc = hp_buf_check(out, "what waits to be sent to a plugin", err);
	if (rc != 0) /* no half of a frame: what is before it stays good */
		out->n = before;
out:
	hp_buf_wipe(&text); /* secrets may be in it */
	json_decref(v);
	return rc;
}
