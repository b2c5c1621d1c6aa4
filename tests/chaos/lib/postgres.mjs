// postgres.mjs: a PostgreSQL that a scenario starts, loses and starts again itself.
//
//   const pg = new Postgres({ dir, wal, env })   dir: made; wal: another directory for pg_wal;
//                                                env: the server's environment (LD_PRELOAD …)
//   pg.init(); await pg.start(); await pg.stop('fast')
//   pg.pid(), pg.up()        the postmaster; does it answer?
//   pg.owner, pg.words       for startEngine: { owner: pg.owner, args: pg.words }
//
// It runs as the account `holdpoint` when we are root, and it is fsync = on. What is left of
// it is stopped when this process ends.
import { execFileSync, spawn } from 'node:child_process'
import { chownSync, mkdirSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { waitFor } from '../../e2e/lib/engine.mjs'

const PG_BIN = process.env.PG_BIN || '/usr/lib/postgresql/15/bin'
const root = process.getuid() === 0
const as = (words) => (root ? ['setpriv', '--reuid=holdpoint', '--regid=holdpoint', '--init-groups', '--', ...words] : words)
const started = new Set()

process.on('exit', () => { for (const pg of started) { const pid = pg.pid(); if (pid) try { process.kill(pid, 'SIGQUIT') } catch { /* just ended */ } } })

export class Postgres {
  constructor({ dir, wal, env = {}, options = [] }) {
    Object.assign(this, { dir, wal, env, options, data: join(dir, 'data'), log: join(dir, 'server.log') })
  }

  init() {
    mkdirSync(this.dir, { recursive: true, mode: 0o755 })
    if (root) for (const d of [this.dir, this.wal].filter(Boolean)) {
      const id = (flag) => Number(execFileSync('id', [flag, 'holdpoint'], { encoding: 'utf8' }))
      chownSync(d, id('-u'), id('-g'))
    }
    const words = as([join(PG_BIN, 'initdb'), '-D', this.data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync',
      ...(this.wal ? ['-X', join(this.wal, 'pg_wal')] : [])])
    execFileSync(words[0], words.slice(1), { cwd: this.dir, stdio: ['ignore', 'ignore', 'inherit'] })
    return this
  }

  /** Whoever waits for it asks up(). */
  spawn() {
    const log = openSync(this.log, 'a')
    // not before it is the other user: libfaketime makes files that only their owner may open
    const words = as(['env', ...Object.entries(this.env).map(([k, v]) => `${k}=${v}`), join(PG_BIN, 'postgres'), '-D', this.data, '-c', 'listen_addresses=', '-c', `unix_socket_directories=${this.dir}`,
      '-c', 'max_connections=200', '-c', 'shared_buffers=64MB', '-c', 'timezone=UTC', ...this.options])
    this.child = spawn(words[0], words.slice(1), { cwd: this.dir, stdio: ['ignore', log, log] })
    this.gone = new Promise((done) => this.child.on('exit', done))
    started.add(this)
  }

  async start() {
    this.spawn()
    await waitFor('PostgreSQL answers', () => this.up(), 30000)
    if (this.psql("select 1 from pg_database where datname = 'holdpoint'", 'postgres').length === 0) this.psql('create database holdpoint', 'postgres')
    return this
  }

  up() { try { return this.psql('select 1', 'postgres').length === 1 } catch { return false } }
  pid() { try { return this.child?.exitCode === null && this.child.signalCode === null ? this.child.pid : 0 } catch { return 0 } }
  said(pattern) { return (readFileSync(this.log, 'utf8').match(pattern) ?? []).length }

  psql(sql, database = 'holdpoint') {
    return execFileSync(join(PG_BIN, 'psql'), ['-X', '-q', '-A', '-t', '-F', '\t', '-v', 'ON_ERROR_STOP=1', '-h', this.dir, '-U', 'postgres', '-d', database, '-c', sql],
      { encoding: 'utf8', timeout: 60000, stdio: ['ignore', 'pipe', 'pipe'] }).split('\n').filter(Boolean).map((l) => l.split('\t'))
  }

  async stop(how = 'SIGINT') {
    const pid = this.pid()
    if (pid) { process.kill(pid, how); await this.gone }
    started.delete(this)
  }

  get owner() { return { host: this.dir, user: 'postgres' } }
  get words() {
    const as = (role) => `host=${this.dir} user=${role} dbname=holdpoint`
    return ['--database', as('holdpoint_engine'), '--sql-database', as('holdpoint_workflow'), '--admin-database', as('postgres')]
  }
}
