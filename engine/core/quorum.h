/* quorum.h: "2 of sre and 1 of security". Pure.
 *
 * Grammar: term { "and" term }, term = NUMBER "of" ROLE. Evaluated by the
 * database's decide() as well; both read the same parsed form (JSON array of
 * {"n":2,"role":"sre"}), which the script room stores with the approval. One
 * principal's vote counts in every role they hold.
 */
#ifndef HP_CORE_QUORUM_H
#define HP_CORE_QUORUM_H

#include "base/buf.h"
#include "base/error.h"

#define HP_QUORUM_TERMS_MAX 8

struct hp_quorum_term {
	int n;
	char role[64];
};
struct hp_quorum {
	struct hp_quorum_term terms[HP_QUORUM_TERMS_MAX];
	int n_terms;
};

int hp_quorum_parse(const char *text, struct hp_quorum *q, struct hp_error *err) HP_MUST_CHECK;
int hp_quorum_json(const struct hp_quorum *q, struct hp_buf *b);

#endif
