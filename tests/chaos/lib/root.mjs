// root.mjs: small disks for a scenario, and what else only root may do.
//
//   if (!isRoot) s.skip('needs root')
//   const disk = new Disk('heap', 200)     a tmpfs of 200 MB; disk.dir
//   disk.fill()                            until nothing fits; returns the bytes that did
//   disk.free()                            what fill() wrote goes
//   disk.release()                         unmounted; at the end of the process in any case
//
//   limit(pid, 'nofile', 20)               prlimit, as the process's own user: the soft limit
//   limit(pid, 'nofile', null)             … back to the hard one
import { execFileSync } from 'node:child_process'
import { chmodSync, closeSync, mkdtempSync, openSync, readFileSync, rmdirSync, rmSync, statSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export const isRoot = process.getuid() === 0
const disks = new Set()

process.on('exit', () => { for (const d of disks) d.release() })
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1))

export class Disk {
  constructor(name, mb) {
    this.dir = mkdtempSync(join(tmpdir(), `holdpoint-${name}.`))
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mb}m,mode=0755`, `holdpoint-${name}`, this.dir])
    chmodSync(this.dir, 0o755)
    disks.add(this)
  }

  get ballast() { return join(this.dir, 'ballast') }

  fill() {
    const fd = openSync(this.ballast, 'a'), block = Buffer.alloc(65536)
    let size = block.length
    while (size >= 1) {
      try { writeSync(fd, block, 0, size) } catch (e) {
        if (e.code !== 'ENOSPC') { closeSync(fd); throw e }
        size = Math.floor(size / 2)
      }
    }
    closeSync(fd)
    return statSync(this.ballast).size
  }

  free() { rmSync(this.ballast, { force: true }) }

  release() {
    if (!disks.delete(this)) return
    try { execFileSync('umount', ['-l', this.dir], { stdio: 'ignore' }) } catch { /* it was not mounted any more */ }
    try { rmdirSync(this.dir) } catch { /* its end is told by whoever looks into the directory */ }
  }
}

/** A process of another user may be limited by that user, not by every root. */
export function limit(pid, what, soft) {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const uid = status.match(/^Uid:\t(\d+)/m)[1], gid = status.match(/^Gid:\t(\d+)/m)[1]
  const hard = readFileSync(`/proc/${pid}/limits`, 'utf8').match({ nofile: /Max open files +\S+ +(\S+)/, as: /Max address space +\S+ +(\S+)/ }[what])[1]
  const words = ['prlimit', '--pid', String(pid), `--${what}=${soft ?? hard}:`]
  if (isRoot) words.unshift('setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups')
  execFileSync(words[0], words.slice(1))
}
