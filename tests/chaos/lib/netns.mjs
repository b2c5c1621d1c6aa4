// netns.mjs: a network namespace whose way to the database can be cut, and another one that stays.
//
//   const why = Namespace.missing()        null, or why there can be none ("needs root")
//   const net = new Namespace().start()
//   net.db, net.out    addresses of this side; net.there of the other one on the link `out`
//   net.wrap           words before a command that is to run inside
//   net.cut('cable'); net.heal()
//
//   cable     the far end is pulled: what is sent vanishes, nothing comes
//   interface the near end is down: there is no route any more
//   drop      a firewall drops both directions
//   replies   requests arrive, replies are lost
//   requests  requests are lost
//
// Everything has the process's id in its name and is removed with it; what a killed process
// left behind is removed by the next one. Rules live inside the namespace.
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'

const run = (...words) => execFileSync(words[0], words.slice(1), { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
const quietly = (...words) => { try { run(...words) } catch { /* it is not there */ } }
const PREFIX = 'hpchaos'

export class Namespace {
  static missing() {
    if (process.getuid() !== 0) return 'needs root'
    for (const program of ['ip', 'iptables']) if (!['/usr/sbin', '/sbin', '/usr/bin'].some((d) => existsSync(`${d}/${program}`))) return `needs ${program} (scripts/bootstrap.sh chaos)`
    return null
  }

  constructor() {
    const n = process.pid % 250 + 1
    this.name = `${PREFIX}${process.pid}`
    this.near = { db: `hpd${process.pid}`, out: `hpo${process.pid}` } // names on this side
    Object.assign(this, { db: `10.213.${n}.1`, out: `10.213.${n}.5`, there: `10.213.${n}.6`, from: `10.213.${n}.0/24`, wrap: ['ip', 'netns', 'exec', this.name] })
    this.how = null
  }

  start() {
    for (const name of run('ip', 'netns', 'list').split('\n').map((l) => l.split(' ')[0]).filter((l) => l.startsWith(PREFIX)))
      if (!existsSync(`/proc/${name.slice(PREFIX.length)}`)) quietly('ip', 'netns', 'del', name)
    process.on('exit', () => this.stop())
    run('ip', 'netns', 'add', this.name)
    for (const [there, base] of [['db', this.db], ['out', this.out]]) {
      const next = base.replace(/\d+$/, (x) => Number(x) + 1)
      run('ip', 'link', 'add', this.near[there], 'type', 'veth', 'peer', 'name', there, 'netns', this.name)
      run('ip', 'addr', 'add', `${base}/30`, 'dev', this.near[there])
      run('ip', 'link', 'set', this.near[there], 'up')
      run('ip', '-n', this.name, 'addr', 'add', `${next}/30`, 'dev', there)
      run('ip', '-n', this.name, 'link', 'set', there, 'up')
    }
    run('ip', '-n', this.name, 'link', 'set', 'lo', 'up')
    return this
  }

  #rule(...words) { run(...this.wrap, 'iptables', '-w', ...words) }

  cut(how) {
    this.how = how
    if (how === 'cable') run('ip', 'link', 'set', this.near.db, 'down')
    else if (how === 'interface') run('ip', '-n', this.name, 'link', 'set', 'db', 'down')
    if (how === 'drop' || how === 'replies') this.#rule('-A', 'INPUT', '-i', 'db', '-j', 'DROP')
    if (how === 'drop' || how === 'requests') this.#rule('-A', 'OUTPUT', '-o', 'db', '-j', 'DROP')
  }

  heal() {
    if (this.how === 'cable') run('ip', 'link', 'set', this.near.db, 'up')
    else if (this.how === 'interface') run('ip', '-n', this.name, 'link', 'set', 'db', 'up')
    else this.#rule('-F')
    this.how = null
  }

  /** Established connections to a port there: local port → the program that has it. */
  connections(port) {
    return new Map(run(...this.wrap, 'ss', '-Htnp', 'state', 'established', `( dport = :${port} )`).split('\n').filter(Boolean)
      .map((l) => [l.trim().split(/\s+/)[2].split(':').at(-1), /\(\("([^"]+)/.exec(l)?.[1] ?? '?']))
  }

  stop() {
    quietly('ip', 'netns', 'del', this.name)
    for (const name of Object.values(this.near)) quietly('ip', 'link', 'del', name) // processes inside may hold their ends
  }
}
