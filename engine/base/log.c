/* log.c: one line, one write(2), so lines of several processes on one
 * standard error do not mix. A line that cannot be built is replaced by one
 * that says so; logging never fails its caller. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/clock.h"

#define LINE_MAX_BYTES 8192

/* Set once, before threads and loops start. */
static char process_name[32] = "holdpoint";
static enum hp_log_level minimum = HP_INFO;

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void hp_log_init(const char *process, enum hp_log_level min)
{
	snprintf(process_name, sizeof process_name, "%s", process);
	minimum = min;
}

static void add_text(struct hp_buf *b, const char *name, const char *value)
{
	if (b->n > 1)
		hp_buf_addc(b, ',');
	hp_buf_json(b, name, strlen(name));
	hp_buf_addc(b, ':');
	if (value)
		hp_buf_json(b, value, strlen(value));
	else
		hp_buf_adds(b, "null");
}

static void begin_line(struct hp_buf *b, enum hp_log_level level, const char *message)
{
	char now[32];

	HP_ASSERT(level >= HP_DEBUG && level <= HP_ERROR);
	hp_buf_init(b, LINE_MAX_BYTES);
	hp_buf_addc(b, '{');
	add_text(b, "time", hp_time_format(hp_now_us(), now, sizeof now));
	add_text(b, "level", level_names[level]);
	add_text(b, "process", process_name);
	hp_buf_printf(b, ",\"pid\":%ld", (long)getpid());
	add_text(b, "message", message);
}

static void end_line(struct hp_buf *b)
{
	static const char lost[] =
		"{\"level\":\"error\",\"message\":\"a log line was lost: too long, or no memory left\"}\n";
	ssize_t written;

	hp_buf_adds(b, "}\n");
	/* Nobody is left to be told when standard error itself is gone. */
	if (b->failed)
		written = write(STDERR_FILENO, lost, sizeof lost - 1);
	else
		written = write(STDERR_FILENO, b->p, b->n);
	(void)written;
	hp_buf_free(b);
}

void hp_log(enum hp_log_level level, const char *message, ...)
{
	struct hp_buf line;
	const char *name;
	va_list ap;

	if (level < minimum)
		return;
	begin_line(&line, level, message);
	va_start(ap, message);
	while ((name = va_arg(ap, const char *)) != NULL) {
		struct hp_log_value v = va_arg(ap, struct hp_log_value);

		if (v.kind == 's') {
			add_text(&line, name, v.s);
		} else {
			hp_buf_addc(&line, ',');
			hp_buf_json(&line, name, strlen(name));
			hp_buf_printf(&line, ":%lld", (long long)v.i);
		}
	}
	va_end(ap);
	end_line(&line);
}

void hp_log_error(enum hp_log_level level, const char *message, const struct hp_error *err)
{
	struct hp_buf line;

	if (level < minimum)
		return;
	begin_line(&line, level, message);
	add_text(&line, "code", hp_code_name(err->code));
	add_text(&line, "error", err->message);
	if (err->hint[0])
		add_text(&line, "hint", err->hint);
	if (err->file) {
		add_text(&line, "file", err->file);
		hp_buf_printf(&line, ",\"line\":%d", err->line);
	}
	end_line(&line);
}

bool hp_log_due(struct hp_seldom *s, int64_t now, int64_t every_us, int64_t *times)
{
	s->times++;
	if (s->told > 0 && now - s->told < every_us)
		return false;
	*times = s->times;
	*s = (struct hp_seldom){ .told = now };
	return true;
}
