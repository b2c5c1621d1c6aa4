// corruptions.mjs: what is spoiled in a copy of the zoo (fsck.test.mjs), one line each.
//
//   [check, run, sql, says, also]
//   run   a name of the zoo ("wait"), or "a done", "a signed": one of those that nobody else spoils
//   sql   with $RUN for its number
//   says  what fsck must say of that run under that check (no run: of the line without one)
//   also  checks that must find something of that run, too, because more follows from it
const spoil = (set, where = '') => `update run_state set ${set} where run_id = $RUN${where}`
const history = (set, where) => `update history set ${set} where run_id = $RUN and ${where}`
const index = (name) => `state_index(states_of((select digest from run where id = $RUN)), '${name}')`
const LAST = 'rev = (select max(rev) from history where run_id = $RUN)'
const ASIF = (as, is) => new RegExp(`the run went on at .* as if it were ${as}, and it is ${is}$`)
const decision = `run_id = $RUN and move = 11 and detail ->> 'status' = 'approved'`

/** Those of the zoo live on. One of long ago is idle (else nothing is late), and one has died. */
export const ENGINES = `update engine set lease_until = 9000000000000000;
  insert into engine (id, host, pid, lease_us, lease_until, idle, started_at) overriding system value
    values (9001, 'copy', 1, 1000000, 9000000000000000, true, 0);
  insert into engine (id, host, pid, lease_us, lease_until, dead, started_at, ended_at) overriding system value
    values (9002, 'copy', 2, 1000000, 1, true, 0, 1);`

export const CORRUPTIONS = [
  ['final', 'a done', `insert into history (run_id, rev, epoch, at, move, from_state, from_visit, state, visit, phase, status, attempt, due_at, flags, outcome)
    select run_id, rev + 1, epoch, at, 13, state, visit, state, visit, phase, 2, attempt, 0, 0, 0 from history where run_id = $RUN and ${LAST}`,
  /^rev \d+ \(woken\) was written after it had ended with rev \d+$/, ['fold']],

  ['visits', 'a note', `delete from history where run_id = $RUN and visit = 2`, /leaves visit 2, and the row before it is of visit 1/, ['fold']],
  ['visits', 'a done', history('move = 2', 'rev = 0'), /^its history begins with rev 0 \(entered, visit 1\), not with its start$/],
  ['visits', 'a note', `${history(`state = ${index('pay')}`, 'visit = 2')}; ${history(`from_state = ${index('pay')}`, 'from_visit = 2')}`,
    /goes from state "which" to "pay", and its definition has no such way/],
  ['visits', 'a done', `update run set digest = sha256('nothing') where id = $RUN`, /is in state #0 of a definition [0-9a-f]{12} that is not there/, ['visits']],
  ['visits', 'a done', `${history('state = 499', LAST)}; ${spoil('state = 499')}`, /is in state #499 of a definition .* that has no such state/],
  ['visits', 'a backoff', `${history(`state = ${index('doubt')}`, LAST)}; ${spoil(`state = ${index('doubt')}`)}`, /is in state #\d+ without having entered it/],
  ['visits', 'a done', history(`from_state = ${index('wait')}`, 'from_visit = 1 and visit = 2'), /leaves state #\d+, and the row before it is in state #0/],
  ['visits', 'a backoff', `${history('visit = visit + 1', LAST)}; ${spoil('visit = visit + 2')}; ${history('visit = 4', LAST)}`, /goes from visit 2 to visit 4/],

  ['fold', 'wait', spoil('visit = 9'), /^it is in visit 9, its history in visit 2$/],
  ['fold', 'a done', spoil('status = 5'), /^it is failed, its history says succeeded$/],
  ['fold', 'a done', spoil('phase = 3'), /^it is in phase backoff, its history in phase enter$/],
  ['fold', 'a done', spoil('attempt = 2'), /^it has made 2 attempts, its history says 0$/],
  ['fold', 'a done', spoil(`state = ${index('wait')}`), /^it is in state #\d+, its history in state #\d+$/],
  ['fold', 'a backoff', spoil('rev = rev + 5'), /^it is at rev \d+ and epoch 1 with \d rows of history: rows are missing/],
  ['fold', 'a done', spoil('rev = rev + 1, epoch = epoch + 1'), /^it ended with rev \d+ and is at rev \d+$/],
  ['fold', 'a backoff', `${spoil('due_at = due_at + 1000000')}; update timer set due_at = due_at + 1000000 where run_id = $RUN`, /^it is due at \d+, its history says \d+$/],

  ['saved', 'a undo', `update saved set rev = rev + 40 where run_id = $RUN and name = 'booked'`, /^value "booked" says it was saved by rev \d+ of visit 2, and there is no such row/],
  ['keys', 'a done', `delete from run_key where run_id = $RUN`, /^nobody has its key "zoo done \d+"$/],
  ['keys', 'a backoff', `update run_key set freed = true where run_id = $RUN`, /^it is waiting, and its key "zoo backoff \d+" is free for others$/],
  ['keys', null, `insert into run_key (workflow, key_hash, generation) values ('zoo', sha256('x'), 1)`, /^a key of workflow zoo belongs to no run$/],
  ['keys', 'a done', `insert into effect_key (scope, key_hash, run_id, visit, first_sent_at) values ('recorder.put', sha256('x'), $RUN, 1, 1)`,
    /^it has a business key of recorder.put for visit 1, and never admitted that$/],
  ['epochs', 'a short', history('epoch = 7', 'rev = (select min(rev) from history where run_id = $RUN and epoch is not null)'),
    /^rev \d+ is of epoch \d, and one before it of epoch 7$/, ['fold']],
  ['epochs', 'a done', spoil('epoch = 0'), /^it is in epoch 0, and its history has epoch 1$/, ['fold']],

  ['causes', 'a backoff', `delete from timer where run_id = $RUN`, /^it is due at .*, and no timer is set$/],
  ['causes', 'a backoff', spoil('status = 1'), /^it is running, and on nobody's list: nothing will move it$/, ['fold']],
  ['causes', 'queued', `delete from permit where run_id = $RUN`, /^it waits in phase gated, and nothing will wake it$/],
  ['limits', null, `select 1`, /^slots zoo.slot +counts 1 taken and 1 waiting, and its permits are 1 and 0$/],
  ['causes', 'sign', `update approval set status = 'approved' where run_id = $RUN`, /^its approval was approved, and nobody woke it$/, ['approvals']],
  ['causes', 'ask', `update approval set status = 'cancelled', decided_at = 1 where run_id = $RUN`, /^it waits for an approval that is cancelled$/],
  ['causes', 'child', `delete from family where run_id = $RUN`, /^it waits for children that are not recorded$/, ['children']],
  ['causes', 'await', `insert into mail (name, key_hash, key, payload, sender, at, expires_at) select name, key_hash, key, '{}', 'copy', 1, 9000000000000000
    from mail_wait where run_id = $RUN`, /^a message waits for it, and nobody woke it$/],

  ['rows', 'hold', `delete from held where run_id = $RUN`, /^it is held, and not in the list of what is held$/],
  ['rows', 'a done', `insert into held (run_id, since) values ($RUN, 1)`, /^it is succeeded, and still in the list of what is held$/],
  ['rows', 'undo_held', spoil('in_held = false'), /^its mark for the list of what is held is wrong$/],
  ['rows', 'paused', `delete from paused where run_id = $RUN`, /^it is paused, and not in the list of what is paused$/],
  ['rows', 'paused_too', `insert into timer (run_id, due_at) values ($RUN, 9000000000000000)`, /^it is paused, and a timer is set$/],
  ['rows', 'a backoff', `insert into ready (run_id, due_at, engine_id) values ($RUN, 1, 4711)`, /^it belongs to engine 4711, which is not known$/],
  ['rows', 'a await', `delete from mail_wait where run_id = $RUN`, /^its mark for waiting on messages is wrong$/],
  ['rows', 'a done', `insert into arm_state (run_id, visit, doc) values ($RUN, 1, '{}')`, /^it has clocks of visit 1 left$/],
  ['rows', 'a done', `insert into timer (run_id, due_at) values ($RUN, 1)`, /^it has ended, and a timer is set$/],
  ['rows', 'a done', `insert into ready (run_id, due_at) values ($RUN, 1)`, /^it has ended, and is still on the ready list$/],
  ['rows', 'a done', `insert into ready (run_id, due_at, engine_id) values ($RUN, 1, 9001)`, /^it has ended, and belongs to engine 9001$/],
  ['rows', 'a backoff', `insert into gated (run_id, kind, name, since, message) values ($RUN, 'breaker', 'x', 1, 'x')`, /^it stands before gate breaker x, and is in phase backoff without the mark for it$/],
  ['rows', 'a backoff', `update timer set due_at = due_at + 1 where run_id = $RUN`, /^it is due at \d+, and its timer is set to \d+$/],

  ['orphans', 987654, `insert into ready (run_id, due_at) values ($RUN, 1)`, /^there is no such run, but a row of it in ready$/],
  ['orphans', 987655, `insert into child (run_id, visit, n, status) values ($RUN, 1, 1, 0)`, /^there is no such run, but a row of it in child$/, ['children']],
  ['orphans', 'a done', `delete from run_state where run_id = $RUN`, /^it has no state$/],
  ['orphans', 'a done', `delete from history where run_id = $RUN`, /^it has no history$/],
  ['orphans', 'a done', `delete from run where id = $RUN`, /^there is no such run, but a row of it in run_state$/],

  ['overdue', 'a backoff', `update run set created_at = 1 where id = $RUN; insert into ready (run_id, due_at) values ($RUN, 1)`, /^it is ready since 1970.*, an engine is idle, and nobody has taken it$/],
  ['overdue', 'a backoff', `${spoil('due_at = 1000000')}; update timer set due_at = 1000000 where run_id = $RUN; ${history('due_at = 1000000', LAST)}`,
    /^its timer was due at 1970.*, an engine is idle, and nobody has taken it$/],
  ['overdue', 'a backoff', `insert into ready (run_id, due_at, engine_id) values ($RUN, 1, 9002)`, /^it belongs to engine 9002, which is dead since 1970.*, and nobody has taken it over$/],

  ['timers', 'a short', history('at = (select max(due_at) - 1 from history where run_id = $RUN)', 'from_visit = 2 and visit = 3'), /left state "short" at .*, and it was to wait until /],
  ['timers', 'doubt', history('at = (select min(at) from history where run_id = $RUN and move = 5)', 'move = 6'), /^rev \d+ \(probing\) came at .*, and it was to wait until /],

  ['mail', 'webhook', `delete from inbox`, /^a webhook of duffel started it at \d+, and the inbox has no message of that moment$/],
  ['mail', 'a await', `update mail_wait set key_hash = sha256('x') where run_id = $RUN`, /^it waits for zoo.ping under a hash that is not of its key "\d+"$/],
  ['mail', 'a done', `insert into mail_cursor (run_id, name, key_hash, mail_id) values ($RUN, 'x', 'x', 1000000)`, /^it has read message 1000000, and no message had that number$/],
  ['mail', 'a done', `insert into mail_cursor (run_id, name, key_hash, mail_id) select $RUN, 'x', 'x', max(id) from mail`, /^it has read message \d+ as one of x, and that is of /],

  ['approvals', 'a signed', `update approval set request = request || ' ' where run_id = $RUN`, /the stored request does not have the hash that was signed$/],
  ['approvals', 'a signed', `update approval set request = null where run_id = $RUN`, /it has a hash and no request$/],
  ['approvals', 'a signed', `update approval set decided_by = null where run_id = $RUN`, /it is approved, and nobody decided it$/],
  ['approvals', 'a signed', `update approval set decided_at = deadline_at where run_id = $RUN`, /it was decided at .*, and its deadline was /],
  ['approvals', 'a signed', `delete from vote v using approval a where a.run_id = $RUN and v.approval_id = a.id`, /olga decided it, and there is no such vote$/],
  ['approvals', 'a signed', `update approval set quorum = '[{"n": 2, "role": "ops"}]' where run_id = $RUN`, /it is approved with 1 of the votes of "1 of ops"$/],
  ['approvals', 'a signed', `update vote v set at = deadline_at from approval a where a.run_id = $RUN and v.approval_id = a.id`, /there is a vote after its deadline$/],
  ['approvals', 'a signed', `update vote v set at = at - 1 from approval a where a.run_id = $RUN and v.approval_id = a.id`, /there is a vote that the history does not tell of$/],
  ['approvals', 'a signed', `update approval set decided_at = decided_at - 1 where run_id = $RUN`, /it is approved by olga at .*, and the history tells of another decision$/],
  ['approvals', 'a signed', `update approval set requester = 'olga' where run_id = $RUN`, /olga voted on what they requested themselves$/],
  ['approvals', 'a signed', `insert into history (run_id, rev, seq, at, move, state, visit, phase, status, attempt, due_at, flags, outcome, detail)
    select run_id, rev, 1, at, move, state, visit, phase, status, attempt, due_at, flags, outcome, detail from history where ${decision}`,
  /it is approved, and the history does not tell of exactly one decision$/],
  ['approvals', 'a signed', `update approval set status = 'expired' where run_id = $RUN`, /it is expired, and the history tells of a decision$/],
  ['approvals', 'a signed', `update approval set status = 'expired' where run_id = $RUN; update history set detail = '{}' where ${decision}`, ASIF('approved', 'expired')],
  // a pause in its visit excuses nothing
  ['approvals', 'signed_late', `update approval set status = 'expired' where run_id = $RUN; update history set detail = '{}' where ${decision}`, ASIF('approved', 'expired')],
  ['approvals', 'home', `update approval set status = 'expired' where run_id = $RUN; update history set detail = '{}' where ${decision}`, ASIF('approved', 'expired')],
  ['approvals', 'home_no', `update approval set status = 'cancelled' where run_id = $RUN; update history set detail = '{}' where run_id = $RUN and move = 11`,
    ASIF('rejected', 'cancelled')],
  ['approvals', 'home_late', `update approval set status = 'cancelled' where run_id = $RUN`, ASIF('expired', 'cancelled')],
  ['approvals', 'home_told', `update approval set status = 'expired' where run_id = $RUN`, ASIF('cancelled', 'expired')],
  ['approvals', 'a signed', `update history set rev = (select rev from history where run_id = $RUN and move = 9), seq = 1 where ${decision}`,
    /the run went on with rev \d+, and it was approved with rev \d+$/],
  ['approvals', 'paying', `update approval set request_sha256 = sha256('other'), request = 'other' where run_id = $RUN`, /the admitted request is not the one that was signed$/],
  ['approvals', 'a backoff', spoil('signed_visit = 1'), /^it is to send what was signed in visit 1, and there is no approval of that visit$/],

  ['schedules', 'tick', `update run set requester = 'schedule:zoo_one' where id = $RUN; update schedule_tick set run_id = 1 where run_id = $RUN`,
    /^schedule:zoo_one started it for the tick .*, which belongs to run 1$/],
  ['schedules', null, `update schedule set started = 0`, /^zoo_one: counts 0 starts, and has 1 ticks that started a run$/],

  ['children', 'many', `update family set succeeded = 1 where run_id = $RUN`, /^visit 2 counts \(4,1,3,1,0,0\), and its rows are \(4,1,3,0,0,0\)$/],
  ['children', 'some', `update run_state set awaited = false where run_id = (select min(child) from child where run_id = $RUN)`, /^child 1 of visit 2 is run \d+, which does not know that it is waited for$/],
  ['undo', 'a undo', `update undo_log set status = 1 where run_id = $RUN`, /^(its undo log counts 0 effects as undone, its history 1|it went back and has ended, and its undo log has open entries)$/, ['undo']],
  ['undo', 'a undo', `update unwinding set ends = 6 where run_id = $RUN`, /^it was to end as cancelled when all was undone, and failed$/],
  ['undo', 'a undo', `update undo_log set visit = 77 where run_id = $RUN`, /^entry 1 of its undo log is of visit 77, which it has not had$/],
  ['sweeps', 'sweep', `update sweep set failed = 3 where run_id = $RUN`, /^the sweep of visit 2 counts 3 failures, and 0 are listed$/],

  ['limits', 'a backoff', `insert into permit (run_id, visit, limiter_id, amount, rank) values ($RUN, 2, 4711, 1, 1)`, /^it has a permit of limiter 4711, which is not there$/],
  ['limits', 'a done', `insert into permit (run_id, visit, limiter_id, amount, at, rank) select $RUN, 2, id, 1, 1, 1 from limiter where kind = 'budget' limit 1;
    ${history('at = at - 3600000000', 'true')}`, /^it has left budget zoo long ago, and still has a permit of it$/],
  ['limits', null, `update limiter set now_used = -1 where kind = 'budget'`, /^budget zoo +has a count below nothing$/],
  ['limits', null, `insert into limiter (kind, name, key_hash, key, max, used, waiting) values ('turn', 'x', 'x', 'x', 1, 0, 0) returning id \\gset
    insert into permit (run_id, visit, limiter_id, amount, rank) select run_id, 0, :id, 1, 1 from run_state where limited and status = 2 limit 1;
    update limiter set waiting = 1 where id = :id`, /^turn x x: 1 wait, nobody has it, and nobody will let them in$/],
  ['triggers', null, `insert into webhook_trigger (workflow, source, event) values ('zoo_one', 'duffel', 'order.made_up')`,
    /^webhooks find zoo_one by other events than its definition names$/],
  ['secrets', null, `update secret set last_version = 0`, /^ZOO_KEY has version 1, and counts 0$/],
]
