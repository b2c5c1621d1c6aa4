/* host.h: the process a plugin lives in: `holdpoint plugin-host`.
 *
 * Loads one file, says hello or why not, then serves calls that come as frames
 * over a connected socket until it ends. One loop thread, a small pool.
 */
#ifndef HP_PLUGIN_HOST_H
#define HP_PLUGIN_HOST_H

#define HP_PLUGIN_HOST_FD 3 /* the socket in the new process */

/* Until the socket ends. name: what the plugin must be called, NULL: any. */
void hp_plugin_host_run(const char *file, const char *name, int fd) __attribute__((noreturn));

#endif
