/* list.h: intrusive doubly linked list with a sentinel head.
 *
 * Put a struct hp_list into the object; hp_list_entry() finds the object.
 * An unlinked node points to itself, so hp_list_del() may be called twice.
 */
#ifndef HP_BASE_LIST_H
#define HP_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct hp_list {
	struct hp_list *prev, *next;
};

static inline void hp_list_init(struct hp_list *l) { l->prev = l->next = l; }
static inline bool hp_list_empty(const struct hp_list *l) { return l->next == l; }
static inline void hp_list_add_tail(struct hp_list *head, struct hp_list *n)
{
	n->prev = head->prev;
	n->next = head;
	head->prev->next = n;
	head->prev = n;
}
static inline void hp_list_del(struct hp_list *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	hp_list_init(n);
}
#define hp_list_entry(ptr, type, member) \
	((type *)(void *)((char *)(ptr) - offsetof(type, member)))
/* Safe against removal of the current node. */
#define hp_list_each(it, tmp, head) \
	for ((it) = (head)->next, (tmp) = (it)->next; (it) != (head); (it) = (tmp), (tmp) = (it)->next)

#endif
