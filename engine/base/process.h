/* process.h: what a process with secrets in its memory must not let out of it. */
#ifndef HP_BASE_PROCESS_H
#define HP_BASE_PROCESS_H

/* From now on it leaves no core file, not even to a program that collects them, and no
 * other process of the same user looks into its memory. exec() undoes the latter. */
void hp_process_close_memory(void);

#endif
