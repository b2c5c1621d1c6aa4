/* frame.h: what a worker and a plugin's process say to each other.
 *
 * A frame is four bytes of length (big-endian) and that many bytes of JSON, an
 * object. A length of 0 or above HP_PLUGIN_FRAME_MAX ends the connection.
 *
 *   worker → plugin  {"call": id, "activity", "args", "key", "endpoint"?, "headers"?, "timeout_us"}
 *                    {"cancel": id}   {"ping": n}
 *   plugin → worker  {"hello": {"name", "version", "activities": […]}}   once, when loaded
 *                    {"refused": "why it cannot be used"}                once, instead
 *                    {"reply": id, "class", "value"? | "code", "message"?, "retry_after_us"?}
 *                    {"pong": n}   {"log": level, "message"}
 */
#ifndef HP_PLUGIN_FRAME_H
#define HP_PLUGIN_FRAME_H

#include <jansson.h>
#include "base/buf.h"
#include "base/error.h"

struct hp_frames {
	struct hp_buf in; /* bytes that have come */
	size_t at;        /* of these, already given out */
};

void hp_frames_init(struct hp_frames *f);
void hp_frames_free(struct hp_frames *f);
int hp_frames_feed(struct hp_frames *f, const void *p, size_t n, struct hp_error *err) HP_MUST_CHECK;
/* 1: *out is the next frame's object (owner: caller); 0: more bytes are needed;
 * -1: not a frame, and what follows cannot be trusted. */
int hp_frames_next(struct hp_frames *f, json_t **out, struct hp_error *err) HP_MUST_CHECK;
/* Appends a frame, or nothing; v is released in any case. */
int hp_frame_add(struct hp_buf *out, json_t *v, struct hp_error *err) HP_MUST_CHECK;

#endif
