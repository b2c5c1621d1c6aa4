/* plugin_try.c: one look at a plugin's file, in a process of its own. */
#include "runtime/plugins.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "plugin/frame.h"
#include "runtime/child.h"
#include "runtime/plugin_child.h"

/* 1: a word came; 0: the process's end; -1: it is not a word, or too late. */
static int next_word(int fd, struct hp_frames *frames, int64_t until, json_t **word, struct hp_error *err)
{
	char block[65536];

	for (;;) {
		int rc = hp_frames_next(frames, word, err);
		int64_t left = until - hp_boottime_us();
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t n;

		if (rc != 0)
			return rc;
		if (left <= 0)
			return hp_fail(err, HP_E_TIMEOUT, "loading took longer than %lld s",
				       (long long)(HP_PLUGIN_LOAD_TIME / HP_SECOND));
		if (poll(&p, 1, (int)(left / HP_MSEC) + 1) <= 0)
			continue;
		n = recv(fd, block, sizeof block, 0);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return 0;
		if (n > 0 && hp_frames_feed(frames, block, (size_t)n, err) != 0)
			return -1;
	}
}

/* Its first word that says how it went. */
static int first_word(int fd, json_t **hello, bool *ended, struct hp_error *err)
{
	int64_t until = hp_boottime_us() + HP_PLUGIN_LOAD_TIME;
	struct hp_frames frames;
	json_t *word;
	int rc;

	hp_frames_init(&frames);
	while ((rc = next_word(fd, &frames, until, &word, err)) == 1) {
		const char *refused = hp_json_str(word, "refused");

		*hello = json_incref(json_object_get(word, "hello"));
		rc = refused ? hp_fail(err, HP_E_INVALID, "%s", refused) : 0;
		json_decref(word);
		if (refused || *hello)
			break;
	}
	hp_frames_free(&frames);
	*ended = rc == 0 && !*hello;
	return rc;
}

int hp_plugin_try(const char *exe, const char *file, const char *name, json_t **hello, struct hp_error *err)
{
	char how[64];
	bool ended = false;
	int fd, status = 0, rc;
	pid_t pid;

	*hello = NULL;
	if (hp_plugin_child(exe, file, name, -1, &pid, &fd, err) != 0)
		return -1;
	rc = first_word(fd, hello, &ended, err);
	hp_plugin_child_end(pid, fd, &status);
	if (!ended)
		return rc;
	hp_child_ending(status, how, sizeof how);
	hp_fail(err, HP_E_INVALID, "its process %s while it was loaded", how);
	return hp_error_hint(err, "Loading runs its constructors, hp_plugin_v1() and init(); a debugger shows which.");
}
