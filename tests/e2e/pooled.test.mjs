// The demo through a real pgbouncer in transaction mode: whoever asks next may get
// another session, so nothing may hang on one (prepared statements, LISTEN, session
// settings). Fewer sessions than connections, so that they are really shared.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, test } from 'node:test'
import { ROOT, startEngine, waitFor } from './lib/engine.mjs'
import { approve, exactlyOnce, fault, newBooking, prepare, refuse, runOf } from './lib/demo.mjs'

const PGBOUNCER = ['/usr/sbin/pgbouncer', '/usr/bin/pgbouncer'].find(existsSync)
const POOL = 4 // sessions per role
const root = process.getuid() === 0
const dir = mkdtempSync(join(tmpdir(), 'holdpoint-pooled.'))
let cluster, bouncer, engine, host, bob
const started = new Set()
process.on('exit', () => { for (const child of started) child.kill('SIGKILL') })

const psql = (where, user, database, sql) => execFileSync('psql',
  ['-X', '-q', '-A', '-t', '-F', '\t', '-v', 'ON_ERROR_STOP=1', '-h', where, '-p', where === dir ? '6432' : '5432', '-U', user, '-d', database, '-c', sql],
  { encoding: 'utf8', timeout: 20000, env: { ...process.env, PATH: `/usr/lib/postgresql/15/bin:${process.env.PATH}` } })
  .split('\n').filter(Boolean).map((l) => l.split('\t'))

/** A throw-away cluster of tests/lib/pg.sh; it stops when its standard input ends. */
async function startCluster() {
  cluster = spawn('sh', ['-c', '. tests/lib/pg.sh; trap pg_stop EXIT; pg_start && echo "$PG_DIR" && read -r _'],
    { cwd: ROOT, stdio: ['pipe', 'pipe', 'inherit'] })
  for await (const line of createInterface({ input: cluster.stdout })) return line
  throw new Error('PostgreSQL did not start')
}

async function startBouncer() {
  const words = [PGBOUNCER, join(dir, 'pgbouncer.ini')]
  bouncer = root ? spawn('setpriv', ['--reuid=holdpoint', '--regid=holdpoint', '--init-groups', '--', ...words], { stdio: 'ignore' })
    : spawn(words[0], words.slice(1), { stdio: 'ignore' })
  started.add(bouncer)
  await waitFor('pgbouncer answers', () => psql(dir, 'holdpoint_admin', 'pgbouncer', 'show version').length)
}

before(async () => {
  assert.ok(PGBOUNCER, "pgbouncer is not installed; 'make bootstrap' installs it")
  host = await startCluster()
  psql(host, 'postgres', 'postgres', 'create database holdpoint')
  writeFileSync(join(dir, 'users.txt'), '"holdpoint_engine" ""\n"holdpoint_workflow" ""\n"holdpoint_admin" ""\n')
  writeFileSync(join(dir, 'pgbouncer.ini'), `[databases]
holdpoint = host=${host} dbname=holdpoint
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = ${dir}
unix_socket_mode = 0777
auth_type = trust
auth_file = ${join(dir, 'users.txt')}
admin_users = holdpoint_admin
pool_mode = transaction
default_pool_size = ${POOL}
max_client_conn = 200
server_reset_query =
logfile = ${join(dir, 'pgbouncer.log')}
`)
  chmodSync(dir, 0o777)
  await startBouncer()
  engine = await startEngine({ workers: 3, lease: '2s', owner: { host, user: 'postgres' }, args: ['--pooled', '--poll', '200ms',
    '--database', `host=${dir} port=6432 user=holdpoint_engine dbname=holdpoint`,
    '--sql-database', `host=${dir} port=6432 user=holdpoint_workflow dbname=holdpoint`,
    '--admin-database', `host=${host} user=postgres dbname=holdpoint`] })
  bob = await prepare(engine)
})

after(async () => {
  await engine?.stop()
  bouncer?.kill('SIGKILL')
  if (cluster) {
    const gone = new Promise((done) => cluster.on('exit', done))
    cluster.stdin.end()
    await gone
  }
  rmSync(dir, { recursive: true, force: true })
})

test('it is pgbouncer in transaction mode, and no PostgreSQL of our own runs', () => {
  assert.match(psql(dir, 'holdpoint_admin', 'pgbouncer', 'show version')[0][0], /PgBouncer 1\./)
  assert.ok(psql(dir, 'holdpoint_admin', 'pgbouncer', 'show config').some(([k, v]) => k === 'pool_mode' && v === 'transaction'))
  assert.equal(engine.pids().postgres, undefined)
})

test('twenty stories at once over fewer sessions than connections', async () => {
  const bookings = []
  for (let i = 0; i < 20; i++) bookings.push(await newBooking(engine))
  await Promise.all(bookings.map((b) => refuse(engine, b)))
  await Promise.all(bookings.map((b) => approve(engine, b, bob)))
  for (const b of bookings) await exactlyOnce(engine, b)
  const [[sessions]] = psql(host, 'postgres', 'holdpoint',
    "select count(*) from pg_stat_activity where usename in ('holdpoint_engine', 'holdpoint_workflow')")
  const clients = psql(dir, 'holdpoint_admin', 'pgbouncer', 'show clients').filter((r) => r.includes('holdpoint_engine')).length
  assert.ok(Number(sessions) > 0 && Number(sessions) <= 2 * POOL, `${sessions} sessions`)
  assert.ok(clients > POOL, `${clients} connections share ${POOL} sessions: that shows nothing`)
})

test('a worker is killed, then the pooler: the story ends as it should', async () => {
  const b = await newBooking(engine)
  await fault(engine, 'stripe', { match: 'POST /v1/refunds', kind: 'slow', seconds: 0.5, times: 1 })
  await refuse(engine, b)
  await waitFor('it waits', async () => (await runOf(engine, b))?.kind === 'approval')
  bouncer.kill('SIGKILL')
  await new Promise((done) => bouncer.on('exit', done))
  await startBouncer()
  await approve(engine, b, bob)
  engine.kill('worker-1')
  engine.kill('worker-2')
  await exactlyOnce(engine, b)
})
