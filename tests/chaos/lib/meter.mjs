// meter.mjs: does it spin? What an engine costs while something is wrong.
//
//   const meter = new Meter(engine)
//   const m = await meter.over(10)     after 10 s: { cpu, lines, statements }
//
// cpu         share of one core, of the supervisor, its workers and the private PostgreSQL
//             together, those that died meanwhile included
// lines       lines of log per second
// statements  transactions per second, successful or not, as PostgreSQL counts them;
//             null when it cannot be asked
import { execFileSync } from 'node:child_process'
import { readFileSync, readdirSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'

const TICKS = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }))

/** [pid, parent, ticks of its own, ticks of children it has waited for]; null: it is gone */
function stat(pid) {
  try {
    const f = readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /s, '').split(' ')
    return [Number(pid), Number(f[1]), Number(f[11]) + Number(f[12]), Number(f[13]) + Number(f[14])]
  } catch { return null }
}

/** CPU time so far of `root` and all that came from it, in seconds. */
export function cpuOf(...roots) {
  const all = readdirSync('/proc').filter((n) => /^\d+$/.test(n)).map(stat).filter(Boolean)
  const mine = new Set(roots)
  for (let grown = true; grown;) {
    grown = false
    for (const [pid, parent] of all) if (mine.has(parent) && !mine.has(pid)) { mine.add(pid); grown = true }
  }
  return all.filter(([pid]) => mine.has(pid)).reduce((n, [, , own, reaped]) => n + own + reaped, 0) / TICKS
}

/** Resident memory in bytes. */
export const rssOf = (pid) => {
  try { return Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]) * 4096 } catch { return 0 }
}

export class Meter {
  constructor(engine) { this.engine = engine }

  async #now() {
    let statements = null
    try { statements = Number((await this.engine.sql(`select xact_commit + xact_rollback from pg_stat_database where datname = 'holdpoint'`))[0][0]) } catch { /* it is down */ }
    return { at: Date.now(), cpu: cpuOf(this.engine.child.pid), lines: this.engine.lines, statements }
  }

  async over(seconds) {
    const a = await this.#now()
    await pause(seconds * 1000)
    const b = await this.#now(), s = (b.at - a.at) / 1000
    const per = (x, y) => (x === null || y === null ? null : Math.round((y - x) / s * 10) / 10)
    return { cpu: Math.round((b.cpu - a.cpu) / s * 100) / 100, lines: per(a.lines, b.lines), statements: per(a.statements, b.statements) }
  }
}
