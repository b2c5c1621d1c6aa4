// engine.mjs: a whole Holdpoint for a test: `$HP_BIN serve` with a private
// PostgreSQL and simulated providers, in a directory and on a port of its own.
//
//   const engine = await startEngine({ workers: 2 })
//   engine.url         "http://127.0.0.1:PORT" (the kernel chose the port)
//   engine.token       the local administrator's token
//   engine.dataDir     the engine's data directory
//   engine.pids()      { supervisor, postgres, 'worker-1', …, stripe, duffel, resend }: who runs now
//   engine.kill(what, signal = 'SIGKILL')   one of these by its process id; returns the id
//   await engine.gone(pid)                  until that process has ended
//   await engine.killed('commit_before:3')  until a worker has died by signal 9, at that visit of that label (as in HP_CRASH
//                                           of the last start()); without one: wherever it was
//   await engine.stop()                     SIGTERM, waits for the orderly end, removes the directory;
//                                           whatever is left is killed by its id. Safe to call twice.
//                                           Throws when a process failed an assertion or a sanitizer spoke.
//   await engine.start({ env })             again on the same data, after the supervisor ended
//
//   await engine.api('GET', '/api/v1/runs', body?, { token })   { status, body, headers }
//   await engine.cli(['show', '1'], { env, input })             { code, stdout, stderr }
//   await engine.tokenFor('bob', { kind, scopes, roles })       a token of that principal
//   await engine.webhook('duffel', body, { secret, at, headers })  a signed POST: { status, body }
//   await engine.fake('stripe', 'GET', '/v1/refunds', …)        straight to a simulated provider
//   await engine.sql('select …')            rows of text, as the private database's superuser (or options.owner)
//   await engine.wallet()                   the wallet's tables, if `serve` has not made them, and the seeded booking (BOOKING)
//   await engine.until(run, 'waiting')      polls until the run has that status (or one of an array)
//   engine.log                              the log's lines, parsed (the newest 5000); engine.lines: how many in all
//
// options: workers (1), simulated ('stripe,duffel,resend'; '' for none), env (added to
// the environment: HP_CRASH, HP_CRASH_LOG …), args (more words for `serve`), lease
// ('2s': so that a test of a takeover is short), keep (true: the directory stays),
// owner ({ host, user }: of a database that `args` name), listen, wrap (words before the
// command, for a namespace), onLine (called with each line of the log as it comes).
//
// Works as root (servers then run as the user holdpoint, so the directory is made
// open enough to be entered) and as an ordinary user. Every wait has an end. If the
// test process ends without stop(), what it started is killed.
import { spawn, execFileSync } from 'node:child_process'
import { createHmac } from 'node:crypto'
import { chmodSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

export const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../../..')
export const HP_BIN = resolve(process.env.HP_BIN || join(ROOT, process.env.HP_BUILD || 'build', 'holdpoint'))
export const BOOKING = 'ord_0000HoldpointDemo1' // of scripts/seed.sql
const FACTOR = Number(process.env.HP_TIME_FACTOR || 1) // slow builds (sanitizers)
const PG_BIN = process.env.PG_BIN || '/usr/lib/postgresql/15/bin'
const engines = new Set()

process.on('exit', () => { for (const e of engines) e.killAll() })

const alive = (pid) => {
  try { process.kill(pid, 0) } catch (e) { return e.code === 'EPERM' }
  // a zombie that nobody has waited for yet is gone for our purposes
  try { return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8')) } catch { return false }
}

/** Calls fn until it returns something true; an error names `what`. */
export async function waitFor(what, fn, ms = 15000) {
  const end = Date.now() + ms * FACTOR
  let last
  for (;;) {
    try { const v = await fn(); if (v) return v; last = v } catch (e) { if (e.final) throw e; last = e }
    if (Date.now() > end) throw new Error(`${what}: not within ${ms * FACTOR} ms (${last?.message ?? JSON.stringify(last)})`)
    await pause(25)
  }
}

const firstLine = (file) => { try { return readFileSync(file, 'utf8').split('\n')[0] } catch { return '' } }
const pidIn = (file) => Number(firstLine(file)) || 0

class Engine {
  constructor(options) {
    this.options = { workers: 1, simulated: 'stripe,duffel,resend', env: {}, args: [], lease: '2s',
      listen: '127.0.0.1:0', wrap: [], ...options }
    this.dir = mkdtempSync(join(tmpdir(), 'holdpoint-e2e.'))
    chmodSync(this.dir, 0o755)
    this.dataDir = join(this.dir, 'data')
    this.log = []
    this.lines = 0
    this.findings = []
  }

  async start({ env = {} } = {}) {
    const o = this.options
    const words = ['serve', '--data', this.dataDir, '--listen', o.listen, '--workers', String(o.workers),
      '--lease', o.lease, ...(o.simulated ? ['--simulated', o.simulated] : []), ...o.args]
    const [program, ...before] = [...o.wrap, HP_BIN]
    if (env.HP_CRASH && !o.env.HP_CRASH_LOG) env = { ...env, HP_CRASH_LOG: this.#newVisits() }
    const child = spawn(program, [...before, ...words], { cwd: ROOT, stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, HOLDPOINT_HOME: ROOT, ...o.env, ...env } })
    this.child = child
    this.url = null
    this.ended = new Promise((done) => child.on('exit', (code, signal) => done({ code, signal })))
    let ended = null
    this.ended.then((e) => { ended = e })
    child.on('error', (e) => { ended = e })
    engines.add(this)
    createInterface({ input: child.stderr }).on('line', (line) => this.#line(line))
    try {
      await waitFor('the engine is ready', async () => {
        if (ended) return true
        return this.url && (await fetch(`${this.url}/readyz`)).status === 200
      }, 60000)
    } catch (e) { await this.stop(); throw new Error(`${e.message}\n${this.tail()}`) }
    if (ended) {
      await this.stop()
      throw new Error(`the engine ended: ${JSON.stringify(ended)}\n${this.tail()}`)
    }
    this.token = firstLine(join(this.dataDir, 'token'))
    return this
  }

  #line(line) {
    this.options.onLine?.(line)
    let entry
    try { entry = JSON.parse(line) } catch { entry = { message: line } }
    this.log.push(entry)
    this.lines++
    // a broken invariant or a sanitizer's finding in any process fails the test: see stop()
    if (/assertion failed|Sanitizer|runtime error:/.test(entry.message)) this.findings.push(entry.message)
    if (this.log.length > 5000) this.log.shift()
    if (entry.message === 'running' && entry.address) this.url = entry.address
  }

  tail(n = 30) { return this.log.slice(-n).map((e) => JSON.stringify(e)).join('\n') }

  /** Processes that run now, by name. */
  pids() {
    const all = { supervisor: this.child?.pid ?? 0, postgres: pidIn(join(this.dataDir, 'postgres/postmaster.pid')) }
    const run = join(this.dataDir, 'run')
    for (const f of existsSync(run) ? readdirSync(run) : [])
      if (f.endsWith('.pid')) all[f.slice(0, -4)] = pidIn(join(run, f))
    return Object.fromEntries(Object.entries(all).filter(([, pid]) => pid > 1 && alive(pid) && this.#ours(pid)))
  }

  // A file may name the id of a process that has ended and whose id is somebody
  // else's now: ours have the data directory in their words or their environment.
  #ours(pid) {
    const has = (file) => { try { return readFileSync(`/proc/${pid}/${file}`, 'utf8').includes(this.dataDir) } catch { return false } }
    return has('cmdline') || has('environ')
  }

  kill(what, signal = 'SIGKILL') {
    const pid = this.pids()[what === 'worker' ? 'worker-1' : what]
    if (!pid) throw new Error(`${what} does not run: ${JSON.stringify(this.pids())}`)
    process.kill(pid, signal)
    return pid
  }

  /** Where the processes of this start say which labels they come to; they may be another user's. */
  #newVisits() {
    this.visits = join(this.dir, 'visits')
    writeFileSync(this.visits, '')
    chmodSync(this.visits, 0o666)
    return this.visits
  }

  /** Somebody came to the label for the n-th time, to nothing after that, and is gone. */
  diedAt(place) {
    const [label, n = '1'] = place.split(':')
    const byPid = new Map()
    for (const [at, pid] of readFileSync(this.visits, 'utf8').split('\n').filter(Boolean).map((l) => l.split(' ')))
      byPid.set(pid, [...byPid.get(pid) ?? [], at])
    return [...byPid].some(([pid, visits]) => visits.at(-1) === label && visits.filter((v) => v === label).length === Number(n) &&
      !alive(Number(pid)))
  }

  /** For tests that crash a worker somewhere: without this they would pass with nobody killed, or with one that was
   * killed somewhere else. */
  killed(place, ms = 15000) {
    return waitFor(`a worker dies${place ? ` at ${place}` : ''}`, () => this.log.some((l) => l.message === 'server ended and is started again' &&
      /^worker-/.test(l.server) && /signal 9/.test(l.how)) && (!place || this.diedAt(place)), ms)
  }

  gone(pid, ms = 15000) { return waitFor(`process ${pid} ends`, () => !alive(pid), ms) }

  killAll() {
    for (const [name, pid] of Object.entries(this.pids()))
      try { process.kill(pid, name === 'postgres' ? 'SIGQUIT' : 'SIGKILL') } catch { /* just ended */ }
  }

  async stop({ keep = this.options.keep } = {}) {
    if (!engines.has(this)) return
    const pids = Object.values(this.pids())
    if (this.child.exitCode === null && this.child.signalCode === null && this.child.pid) {
      this.child.kill('SIGTERM')
      await Promise.race([this.ended, pause(30000 * FACTOR, null, { ref: false })])
    }
    this.killAll() // after an orderly end there is nobody left
    for (const pid of pids) await this.gone(pid).catch((e) => this.log.push({ message: e.message }))
    engines.delete(this)
    if (!keep) rmSync(this.dir, { recursive: true, force: true })
    if (this.findings.length) throw new Error(`found while it ran:\n${this.findings.join('\n')}`)
  }

  async api(method, path, body, { token = this.token, headers = {} } = {}) {
    const r = await fetch(this.url + path, { method,
      signal: AbortSignal.timeout(20000 * FACTOR),
      headers: { ...(token ? { authorization: `Bearer ${token}` } : {}),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
      body: body === undefined || typeof body === 'string' ? body : JSON.stringify(body) })
    const text = await r.text()
    let parsed = text
    try { parsed = JSON.parse(text) } catch { /* text it is */ }
    return { status: r.status, body: parsed, headers: r.headers }
  }

  cliEnv(env = {}) {
    return { ...process.env, HOLDPOINT_HOME: ROOT, HOLDPOINT_DATA: this.dataDir, NO_COLOR: '1', ...env }
  }

  cli(words, { env = {}, input = '', ms = 30000 } = {}) {
    return new Promise((done, fail) => {
      const child = spawn(HP_BIN, words, { cwd: ROOT, timeout: ms * FACTOR, killSignal: 'SIGKILL',
        env: this.cliEnv(env) })
      let stdout = '', stderr = ''
      child.stdout.on('data', (d) => { stdout += d })
      child.stderr.on('data', (d) => { stderr += d })
      child.on('error', fail)
      child.on('close', (code, signal) => done({ code: code ?? signal, stdout, stderr }))
      child.stdin.on('error', () => {})
      child.stdin.end(input)
    })
  }

  async tokenFor(principal, { kind = 'person', scopes = ['read', 'approve'], roles } = {}) {
    const r = await this.api('POST', '/api/v1/tokens', { principal, kind, scopes, ...(roles ? { roles } : {}) })
    if (r.status !== 200) throw new Error(`no token for ${principal}: ${JSON.stringify(r.body)}`)
    return r.body.token
  }

  /** A simulated secret by its name. */
  secret(name) {
    const line = readFileSync(join(this.dataDir, 'simulated/secrets.env'), 'utf8').split('\n')
      .find((l) => l.startsWith(`${name}=`))
    if (!line) throw new Error(`there is no secret ${name}`)
    return line.slice(name.length + 1)
  }

  /** POST as Duffel or Stripe sign it: HMAC-SHA256 over "t.body", hex. */
  async webhook(source, body, { secret, at = Math.floor(Date.now() / 1000), headers = {} } = {}) {
    const text = typeof body === 'string' ? body : JSON.stringify(body)
    const key = secret ?? this.secret(`${source.toUpperCase()}_WEBHOOK_SECRET`)
    const v1 = createHmac('sha256', key).update(`${at}.${text}`).digest('hex')
    const name = source === 'stripe' ? 'stripe-signature' : 'x-duffel-signature'
    return this.api('POST', `/api/webhooks/${source}`, text,
      { token: null, headers: { [name]: `t=${at},v1=${v1}`, ...headers } })
  }

  fakeUrl(name) { return `http://127.0.0.1:${firstLine(join(this.dataDir, 'simulated', `${name}.port`))}` }

  async fake(name, method, path, body, headers = {}) {
    const r = await fetch(this.fakeUrl(name) + path, { method, headers, body, signal: AbortSignal.timeout(10000 * FACTOR) })
    const text = await r.text()
    try { return { status: r.status, body: JSON.parse(text) } } catch { return { status: r.status, body: text } }
  }

  /** Rows as arrays of text; psql's own commands are allowed too. */
  async sql(text, variables = {}) {
    const db = this.options.owner ?? { user: 'holdpoint',
      host: readFileSync(join(this.dataDir, 'postgres/postmaster.pid'), 'utf8').split('\n')[4] }
    const words = Object.entries(variables).flatMap(([name, value]) => ['-v', `${name}=${value}`])
    const out = execFileSync(join(PG_BIN, 'psql'), ['-X', '-q', '-A', '-t', '-F', '\t', '-v', 'ON_ERROR_STOP=1', ...words,
      '-h', db.host, '-U', db.user, '-d', 'holdpoint', '-f', '-'],
    { input: text, encoding: 'utf8', timeout: 20000 * FACTOR, stdio: ['pipe', 'pipe', 'pipe'] })
    return out.split('\n').filter(Boolean).map((l) => l.split('\t'))
  }

  async wallet() {
    const dir = join(ROOT, 'migrations/wallet')
    const [[there]] = await this.sql("select to_regclass('public.payments') is not null")
    if (there === 'f') for (const f of readdirSync(dir).filter((n) => n.endsWith('.sql')).sort())
      await this.sql(readFileSync(join(dir, f), 'utf8'))
    await this.sql(readFileSync(join(ROOT, 'scripts/seed.sql'), 'utf8'))
  }

  until(run, status, ms = 15000) {
    const wanted = [status].flat()
    return waitFor(`run ${run} is ${wanted.join(' or ')}`, async () => {
      const r = await this.api('GET', `/api/v1/runs/${run}`)
      if (wanted.includes(r.body.run?.status)) return r.body
      throw new Error(`it is ${r.body.run?.status} in ${r.body.run?.state}`)
    }, ms)
  }
}

export const startEngine = (options = {}) => new Engine(options).start()
