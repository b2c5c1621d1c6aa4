// pgproxy.mjs: a proxy before PostgreSQL that cuts, delays and swallows at a statement's place.
//
//   const proxy = await new PgProxy({ host, port }, seed).start()
//   proxy.conninfo('holdpoint_engine')       through it
//   proxy.plan({ commit: { chance: 0.2, places: { before: 30, after: 900 } } })   faults to come; {} for none
//   await proxy.report()   { landed, lost, left, open, connections, cuts }
//        landed  kind → place → times
//        lost    acknowledgements of commits that nobody heard, by the proxy's word, kind → how its runs were
//                asked about afterwards (looked, reloaded, taken over, none: it names none, open: not yet) → times
//        open    each of which somebody has yet to ask: { kind, place, runs: [[run, { epoch, rev, engine that had it }]] }
//   proxy.stop()
//
// Kinds are those of pgwire.mjs, places those of pgproxy_process.mjs.
import { fork } from 'node:child_process'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const PROCESS = join(dirname(fileURLToPath(import.meta.url)), 'pgproxy_process.mjs')

export class PgProxy {
  constructor({ host, port = 5432 }, seed) {
    const target = host.startsWith('/') ? { path: `${host}/.s.PGSQL.${port}` } : { host, port }
    this.child = fork(PROCESS, [JSON.stringify(target), String(seed)])
    this.asks = 0
    this.waiting = new Map()
    this.child.on('message', (m) => { this.waiting.get(m.ask ?? 'port')?.(m) })
  }

  #answer(ask) { return new Promise((done) => this.waiting.set(ask, done)) }

  async start() {
    this.port = (await this.#answer('port')).port
    return this
  }

  conninfo(user) { return `host=127.0.0.1 port=${this.port} user=${user} dbname=holdpoint sslmode=disable` }
  plan(plan) { this.child.send({ plan }) }

  report() {
    const ask = ++this.asks
    this.child.send({ ask })
    return this.#answer(ask)
  }

  stop() { if (this.child.connected) this.child.disconnect() }
}
