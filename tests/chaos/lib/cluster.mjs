// cluster.mjs: a PostgreSQL of a scenario's own (tests/lib/pg.sh), for faults on the way to it.
//
//   const cluster = await new Cluster({ listen: '10.0.0.1', options: '-c …' }).start()
//   cluster.host       directory of its socket; the superuser is postgres, without password
//   cluster.psql(sql)  rows of text
//   await cluster.fsck(s, engine, 'at the end')
//   await cluster.stop()
//
// It has the database holdpoint. It stops when this process ends, however that happens.
import { execFileSync, spawn } from 'node:child_process'
import { appendFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { ROOT } from '../../e2e/lib/engine.mjs'

const PG_BIN = process.env.PG_BIN || '/usr/lib/postgresql/15/bin'

export class Cluster {
  /** listen: addresses that may connect with the role's name alone, in the notation of pg_hba.conf */
  constructor({ listen = '', from = '', options = '' } = {}) {
    this.from = from
    this.child = spawn('sh', ['-c', '. tests/lib/pg.sh; trap pg_stop EXIT; pg_start && echo "$PG_DIR" && read -r _'],
      { cwd: ROOT, stdio: ['pipe', 'pipe', 'inherit'],
        env: { ...process.env, HP_TEST_PG_OPTIONS: `${listen ? `-c listen_addresses=${listen}` : ''} ${options}` } })
    this.gone = new Promise((done) => this.child.on('exit', done))
  }

  async start() {
    for await (const line of createInterface({ input: this.child.stdout })) { this.host = line; break }
    if (!this.host) throw new Error('PostgreSQL did not start')
    if (this.from) {
      appendFileSync(join(this.host, 'data/pg_hba.conf'), `host all all ${this.from} trust\n`)
      this.psql('select pg_reload_conf()', 'postgres')
    }
    this.psql('create database holdpoint', 'postgres')
    return this
  }

  get owner() { return { host: this.host, user: 'postgres' } }
  get conninfo() { return `host=${this.host} user=postgres dbname=holdpoint` }

  psql(sql, database = 'holdpoint') {
    return execFileSync(join(PG_BIN, 'psql'), ['-X', '-q', '-A', '-t', '-F', '\t', '-v', 'ON_ERROR_STOP=1', '-h', this.host, '-U', 'postgres', '-d', database, '-c', sql],
      { encoding: 'utf8', timeout: 60000 }).split('\n').filter(Boolean).map((l) => l.split('\t'))
  }

  /** What the database says of itself: holdpoint fsck, as a check of scenario s. */
  fsck(s, engine, when) {
    return s.check(`fsck ${when}`, async (bad) => {
      const { code, stdout, stderr } = await engine.cli(['fsck', '--database', this.conninfo], { ms: 120000 })
      if (code !== 0) bad(`exit code ${code}\n${stdout}${stderr}`)
    })
  }

  async stop() {
    this.child.stdin.end()
    await this.gone
  }
}
