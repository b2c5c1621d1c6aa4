// pgbouncer.mjs: a pgbouncer in transaction mode, told what docs/operating.md recommends.
//
//   const pooler = await new Bouncer({ host, port, dir, wrap }).start()   dir: a directory that all may enter
//   pooler.conninfo('holdpoint_engine')
//   pooler.said()   its log: [ms since 1970, what] of each line
//   pooler.stop()
//
// Bouncer.missing: why there can be none, or null. It runs as an unprivileged user.
import { spawn } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { waitFor } from '../../e2e/lib/engine.mjs'

const PGBOUNCER = ['/usr/sbin/pgbouncer', '/usr/bin/pgbouncer'].find(existsSync)
const PORT = 6432

export class Bouncer {
  static missing = PGBOUNCER ? null : 'needs pgbouncer (scripts/bootstrap.sh chaos)'

  constructor(o) { Object.assign(this, { port: 5432, wrap: [] }, o) }

  async start() {
    writeFileSync(join(this.dir, 'users.txt'), '"holdpoint_engine" ""\n"holdpoint_workflow" ""\n')
    writeFileSync(join(this.dir, 'pgbouncer.ini'), `[databases]
holdpoint = host=${this.host} port=${this.port} dbname=holdpoint
[pgbouncer]
listen_addr =
listen_port = ${PORT}
unix_socket_dir = ${this.dir}
unix_socket_mode = 0777
auth_type = trust
auth_file = ${join(this.dir, 'users.txt')}
pool_mode = transaction
default_pool_size = 10
server_reset_query =
logfile = ${join(this.dir, 'pgbouncer.log')}
server_connect_timeout = 1.2
server_login_retry = 0.2
tcp_user_timeout = 2000
tcp_keepidle = 1
tcp_keepintvl = 1
tcp_keepcnt = 3
`)
    const down = process.getuid() === 0 ? ['setpriv', '--reuid=holdpoint', '--regid=holdpoint', '--init-groups', '--'] : []
    const [program, ...words] = [...this.wrap, ...down, PGBOUNCER, join(this.dir, 'pgbouncer.ini')]
    this.child = spawn(program, words, { stdio: 'ignore' })
    process.on('exit', () => this.stop())
    await waitFor('pgbouncer answers', () => existsSync(join(this.dir, `.s.PGSQL.${PORT}`)))
    return this
  }

  conninfo(user) { return `host=${this.dir} port=${PORT} user=${user} dbname=holdpoint` }

  said() {
    return readFileSync(join(this.dir, 'pgbouncer.log'), 'utf8').split('\n').map((l) => l.match(/^(\S+ \S+) (\S+) \[\d+\] (.*)/))
      .filter(Boolean).map(([, at, zone, what]) => [Date.parse(`${at} ${zone}`), what])
  }

  stop() { this.child?.kill('SIGKILL') }
}
