// witness.mjs: what the sessions of a worker that was stopped do to the tables after it has been woken.
//
//   const witness = await new Witness(world).begin()   triggers on what a worker writes
//   await witness.watch([{ pid, engine }])             before they are woken
//   await witness.changed(runs)    of engine → Set of runs that others took over: rows that such an engine
//                                  changed, which should be none: [{ engine, table, op, run, by }]
//   await witness.tried()          engine → how many commits of it came to the database
//
// History shows only what has a row of history. A claim, a heartbeat, a release and a quiet park have none.
// Sessions are found over the peers of their sockets, so nobody may end them meanwhile.
import { execFileSync } from 'node:child_process'

const TABLES = ['run_state', 'ready', 'timer', 'held', 'history', 'saved', 'engine']
// What a worker does with its runs and for itself. Its doors go on until it ends: an order that a person
// gives there is for any run.
const OWN = /holdpoint\.(commit|sql_commit|claim|release|reload|heartbeat|engine_stop)\(/

const TRIGGERS = `create table public.chaos_watched (backend int primary key, started timestamptz not null, engine bigint not null, since timestamptz not null);
  create table public.chaos_seen (engine bigint, tab text, op text, run bigint, owner bigint, by text);
  create function public.chaos_witness() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
  declare
    w chaos_watched;
    v jsonb;
  begin
    select * into w from chaos_watched where backend = pg_backend_pid() and since < transaction_timestamp();
    if found and w.started = (select backend_start from pg_stat_get_activity(pg_backend_pid())) then -- a number may come again
      if tg_level = 'ROW' then
        v := to_jsonb(case when tg_op = 'DELETE' then old else new end);
      end if;
      insert into chaos_seen values (w.engine, tg_table_name, case tg_level when 'ROW' then tg_op else 'TRIED' end,
        (v ->> 'run_id')::bigint, (v ->> 'engine_id')::bigint, current_query());
    end if;
    return null;
  end $$;
  create trigger chaos_tried after update on holdpoint.run_state for each statement execute function public.chaos_witness();
  ${TABLES.map((t) => `create trigger chaos_witness after insert or update or delete on holdpoint.${t} for each row execute function public.chaos_witness();`).join('\n')}`

/** pid of a client → pids of the servers that it is connected to */
function peers() {
  const clients = new Map(), servers = new Map() // by the number of their own socket
  for (const line of execFileSync('ss', ['-xpH'], { encoding: 'utf8' }).split('\n')) {
    const [, , , , path, own, , peer, users = ''] = line.trim().split(/\s+/)
    const pid = Number(/pid=(\d+)/.exec(users)?.[1] ?? 0)
    if (/\/\.s\.PGSQL\.\d+$/.test(path)) servers.set(own, pid)
    else if (pid) clients.set(peer, pid)
  }
  const of = new Map()
  for (const [own, client] of clients) if (servers.get(own)) of.set(client, [...(of.get(client) ?? []), servers.get(own)])
  return of
}

export class Witness {
  constructor(world) { Object.assign(this, { world, engines: 0, sessions: 0 }) }

  static get missing() {
    try { execFileSync('ss', ['-V']); return null } catch { return 'needs ss' }
  }

  async begin() {
    await this.world.sql(TRIGGERS)
    return this
  }

  async watch(workers) {
    const of = peers()
    const rows = workers.flatMap(({ pid, engine }) => (of.get(pid) ?? []).map((backend) => `(${backend}, ${engine})`))
    if (rows.length === 0) return
    await this.world.sql(`insert into public.chaos_watched select backend, a.backend_start, engine, now() from (values ${rows.join()}) v(backend, engine)
      join pg_stat_activity a on a.pid = backend
      on conflict (backend) do update set started = excluded.started, engine = excluded.engine, since = excluded.since`)
    this.sessions += rows.length
  }

  async changed(runs) {
    const rows = await this.world.sql(`select engine, tab, op, run, owner, replace(left(by, 200), E'\\n', ' ') from public.chaos_seen where op <> 'TRIED'`)
    return rows.map(([engine, table, op, run, owner, by]) => ({ engine: Number(engine), table, op, run: Number(run), owner: Number(owner), by }))
      .filter((x) => runs.has(x.engine) && (x.table === 'engine' || x.owner === x.engine || (OWN.test(x.by) && runs.get(x.engine).has(x.run))))
  }

  async tried() {
    const rows = await this.world.sql(`select engine, count(*) from public.chaos_seen where op = 'TRIED' and by ~ 'holdpoint\\.(sql_)?commit\\(' group by 1`)
    return new Map(rows.map(([engine, n]) => [Number(engine), Number(n)]))
  }
}
