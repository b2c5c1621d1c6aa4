// sql.mjs: one session of the superuser that stays open: a question costs no process.
//
//   const db = new Sql(() => ({ host, user }))    asked anew at each connection
//   await db.query('select …')                    rows of text
//   await db.read('select …')                     the same, asked again while the database is away
//   db.close()
//
// Questions of one session are answered in their order. When the session or the
// server dies, the question in hand is refused ("it may have been done or not") and the
// next one connects anew: no question of query() is ever asked twice.
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as pause } from 'node:timers/promises'

const PG_BIN = process.env.PG_BIN || '/usr/lib/postgresql/15/bin'
const END = '--answered--'

/** The database could not be asked; an answer that is an error is another matter. */
export const away = (e) => /^psql:/.test(e.message) && !/ERROR:/.test(e.message)

export class Sql {
  constructor(where) {
    this.where = where
    this.last = Promise.resolve()
  }

  query(text) {
    const answer = this.last.then(() => this.#ask(text))
    this.last = answer.catch(() => {})
    return answer
  }

  async read(text, ms = 60000) {
    for (const end = Date.now() + ms; ;) {
      try { return await this.query(text) } catch (e) {
        if (!away(e) || Date.now() > end) throw e
        await pause(20)
      }
    }
  }

  #open() {
    const { host, port = 5432, user, database = 'holdpoint' } = this.where()
    const child = spawn(join(PG_BIN, 'psql'), ['-X', '-q', '-A', '-t', '-F', '\t', '-v', 'ON_ERROR_STOP=1',
      '-h', host, '-p', String(port), '-U', user, '-d', database, '-f', '-'], { stdio: ['pipe', 'pipe', 'pipe'] })
    let said = ''
    child.stderr.on('data', (d) => { said = (said + d).slice(-2000) })
    child.stdin.on('error', () => {}) // its end is told by 'close'
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (line === END) this.asked?.done(this.asked.rows)
      else if (line) this.asked?.rows.push(line.split('\t'))
    })
    child.on('error', (e) => { said = e.message })
    child.on('close', () => {
      this.child = null
      this.asked?.fail(new Error(`psql: ${said.trim() || 'the session ended'}`))
    })
    this.child = child
  }

  #ask(text) {
    return new Promise((done, fail) => {
      if (!this.child) {
        try { this.#open() } catch (e) { fail(e); return }
      }
      this.asked = { rows: [], done, fail }
      this.child.stdin.write(`${text}\n;\n\\echo ${END}\n`)
    }).finally(() => { this.asked = null })
  }

  close() { this.child?.stdin.end() }
}
