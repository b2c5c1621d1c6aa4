-- Every road of refund_on_booking_failure: `holdpoint test workflows`, and the same against
-- the wallet's tables: `holdpoint test --real workflows`. docs/testing.md explains the words.

local create, list, retrieve = "stripe.refunds.create", "stripe.refunds.list", "stripe.refunds.retrieve"
local mail = "resend.emails.send"
-- as in refund_on_booking_failure_test.sql: payment, refund, traveller
local p1, r1 = "00000000-0000-4000-8000-0000000000a1", "00000000-0000-4000-8000-0000000000b1"
local u1 = "00000000-0000-4000-8000-0000000000c1"

local function payment(amount)
  return { id = p1, booking_id = "ord_1", user_id = u1, intent = "pi_1", amount = amount, currency = "usd",
           reference = "RZPNX8" }
end

local function refund(status, more)
  local r = { id = "re_1", amount = 50000, status = status, payment_intent = "pi_1" }
  for name, value in pairs(more or {}) do r[name] = value end
  return r
end

-- The failed booking arrives; its payment of that amount is found.
local function booking_fails(amount)
  if amount then given("update public.payments set amount = " .. amount) end
  sql("find_payment", payment(amount or 50000))
  sql("open_refund", { id = r1, status = "pending" })
  start { input = { data = { object = { id = "ord_1" } } }, by = "webhook:duffel" }
end

local function signed()
  person("alice", "payments")
  booking_fails()
  approve { by = "alice", reason = "the airline refused it" }
end

-- The word of Stripe about the refund.
local function stripe_says(name, status, more)
  local r = refund(status, more)
  r.object = "refund"
  event("stripe.refund." .. name, "re_1", { data = { object = r } })
end

local function traveller_is_told()
  sql("settle", 1)
  sql("find_traveller", { email = "ada@example.com", first_name = "Ada" })
  reply(mail, { id = "mail_1" })
end

local function row_is_closed()
  sql("close_failed", 1)
  reply(mail, { id = "mail_2" })
end

-- The refund did not go through, and the lead knows the reason.
local function lead_is_told(reason)
  local e = run().effects
  equal(e[#e], { state = "tell_lead", operation = mail, body = { to = { "payments-lead@example.com" },
    text = contains(reason) } })
  expect { status = "failed", state = "failed", code = "refund_failed", message = contains(reason), waiting = {} }
end

return tests "refund_on_booking_failure" {
  test("the straight road", function()
    person("alice", "payments")
    reply(create, refund "pending")
    sql("record", 1)
    traveller_is_told()
    booking_fails()
    expect {
      status = "waiting", state = "review", waiting = { "approval review" }, effects = {},
      why = "waits for approval 1 by 1 of payments", due_in = 3600,
      approval = {
        ask = "Refund 500.00 USD for booking RZPNX8? The airline refused it.", status = "open",
        evidence = { payment = { id = p1 }, row = { id = r1 } },
        request = { method = "POST", path = "/v1/refunds", body = { payment_intent = "pi_1", amount = "50000" } },
      },
    }
    approve { by = "alice", reason = "the airline refused it" }
    expect { status = "waiting", state = "confirm", waiting = { "event confirm" } }
    stripe_says("updated", "succeeded")
    expect {
      status = "succeeded", state = "done", waiting = {},
      path = { "find_payment", "open_refund", "review", "refund", "record", "where_it_stands", "confirm",
               "where_it_stands", "settle", "find_traveller", "tell", "done" },
      result = { refund = "re_1", amount = 50000, told = true },
      effects = {
        { operation = create, key = "refund:" .. p1, attempts = 1, probe = false, method = "POST", path = "/v1/refunds",
          body = exactly { payment_intent = "pi_1", amount = "50000", reason = "requested_by_customer",
                           ["metadata[booking_id]"] = "ord_1", ["metadata[refund_id]"] = r1 } },
        { operation = mail, key = "refund-mail:" .. p1,
          body = { to = { "ada@example.com" }, text = contains "We have refunded 500.00 USD" } },
      },
      statements = {
        { state = "find_payment", args = { "ord_1" } },
        "open_refund",
        { state = "record", args = { r1, "re_1" } },
        "settle",
        { state = "find_traveller", user = u1, args = { u1 } },
      },
    }
  end),

  test("acceptance tests name the booking themselves", function()
    sql("find_payment", none)
    start { input = { data = { booking_id = "booking_9" } } }
    expect { key = "booking_9", statements = { { state = "find_payment", args = { "booking_9" } } } }
  end),

  test("while the breaker of Stripe is open nothing is sent, and no attempt is spent", function()
    reply(create, refund "succeeded")
    sql("record", 1)
    traveller_is_told()
    person("alice", "payments")
    booking_fails()
    breaker_open("stripe", "they migrate tonight")
    approve { by = "alice", reason = "the airline refused it" }
    pass "3d"
    expect {
      status = "waiting", state = "refund", phase = "gated", attempt = 0, code = "breaker_open", effects = {},
      why = contains "the breaker of stripe is forced open",
    }
    breaker_reset "stripe"
    expect { status = "succeeded", effects = { { operation = create, attempts = 1 }, { operation = mail } } }
  end),

  test("a pause rests until it is resumed, and what comes meanwhile counts", function()
    person("alice", "payments")
    booking_fails()
    pause { by = "olga", reason = "the provider migrates" }
    approve { by = "alice", reason = "the airline refused it" }
    pass "1d"
    expect { status = "waiting", state = "review", waiting = { "resume review" }, effects = {},
      why = "by olga: the provider migrates" }
    reply(create, refund "pending")
    sql("record", 1)
    resume { by = "olga", reason = "it is back" }
    expect { status = "waiting", state = "confirm" }
  end),

  test("an input of another shape is refused before there is a run", function()
    refused("input.data", start, { input = { data = 7 } })
  end),

  test("nothing was paid, nothing is sent", function()
    given "update public.payments set status = 'failed'"
    sql("find_payment", none)
    start { input = { data = { object = { id = "ord_1" } } } }
    expect { status = "succeeded", state = "nothing_to_refund", path = { "find_payment", "nothing_to_refund" },
             result = { booking = "ord_1", refunded = false }, effects = {}, waiting = {} }
  end),

  test("a second refund of the same booking is one too many", function()
    sql("find_payment", payment(50000))
    given([[insert into public.refunds (id, booking_id, payment_id, user_id, payment_intent_id, amount, currency)
            select gen_random_uuid(), booking_id, id, user_id, 'pi_1', amount, currency from public.payments]])
    sql("open_refund", sql_error "unique_violation")
    start { input = { data = { object = { id = "ord_1" } } } }
    expect { status = "failed", state = "refund_exists", code = "refund_exists", effects = {}, waiting = {} }
  end),

  test("a small amount needs nobody", function()
    reply(create, { id = "re_1", amount = 49999, status = "succeeded" })
    sql("record", 1)
    traveller_is_told()
    booking_fails(49999)
    expect { status = "succeeded", state = "done", approval = absent,
             effects = { { operation = create, key = "refund:" .. p1 }, { operation = mail } } }
  end),

  test("the word that came before anybody waited for it counts", function()
    reply(create, refund "pending")
    sql("record", 1)
    traveller_is_told()
    stripe_says("updated", "succeeded")
    signed()
    expect { status = "succeeded", state = "done" }
  end),

  test("rejected: the row is closed with the reason", function()
    person("bob", "payments")
    sql("close_rejected", 1)
    booking_fails()
    reject { by = "bob", reason = "already settled by phone" }
    expect { status = "failed", state = "closed", code = "rejected", effects = {}, waiting = {},
             message = "bob rejected the refund: already settled by phone",
             statements = { "find_payment", "open_refund",
                            { state = "close_rejected", args = { r1, "already settled by phone" } } } }
  end),

  test("who may not decide cannot", function()
    person("carl", "support")
    agent("helper", "payments")
    booking_fails()
    refused("carl is not among the approvers: 1 of payments", approve, { by = "carl", reason = "please" })
    refused("only a person can, this is an agent", approve, { by = "helper", reason = "please" })
    refused("not a known principal", reject, { by = "nobody", reason = "please" })
    person("alice", "payments")
    refused("a reason is mandatory", approve, { by = "alice" })
    expect { status = "waiting", state = "review", effects = {} }
  end),

  test("nobody decides: the lead is written to and the question asked again, for a day", function()
    reply(mail, function() return { id = "mail_1" } end)
    sql("close_expired", 1)
    booking_fails()
    pass "4h"
    expect { status = "waiting", state = "review", waiting = { "approval review" },
             path = { "find_payment", "open_refund", "review", "escalate", "ask_again", "review" } }
    equal(run().effects[1].body, { to = { "payments-lead@example.com" },
                                   subject = "A refund waits for a decision for booking ord_1" })
    pass "20h"
    expect { status = "failed", state = "undecided", code = "nobody_decided", waiting = {},
             effects = { mail, mail, mail, mail, mail, mail } }
  end),

  test("a late decision finds the new question, not the old one", function()
    person("alice", "payments")
    reply(mail, failure { class = "terminal", code = "validation_error" })
    reply(create, refund "pending")
    sql("record", 1)
    booking_fails()
    pass "4h"
    approve { by = "alice", reason = "sorry, I was asleep" }
    expect { state = "confirm", effects = { mail, { operation = create, key = "refund:" .. p1 } } }
  end),

  test("attempts that failed are repeated under the same key, not before Stripe's advice", function()
    reply(create, failure { class = "retryable", code = "rate_limit", retry_after = 30 }, refund "pending")
    sql("record", 1)
    signed()
    expect { status = "waiting", state = "refund", waiting = { "attempt refund" }, code = "rate_limit" }
    pass "29s"
    expect { state = "refund", effects = { { operation = create, attempts = 1 } } }
    settle()
    expect { state = "confirm", effects = { { operation = create, key = "refund:" .. p1, attempts = 2 } } }
  end),

  test("a lost reply is asked for again under the same key", function()
    reply(create, lost_reply, timeout, unreachable, refund "pending")
    sql("record", 1)
    signed()
    settle()
    expect { state = "confirm", effects = { { operation = create, key = "refund:" .. p1, attempts = 4 } } }
  end),

  test("a lost reply that stays lost: the list is looked at, and the refund is ours", function()
    reply(create, function() return lost_reply end)
    reply(list, { data = { refund("failed", { id = "re_0" }), refund "pending" }, has_more = false })
    sql("record", 1)
    signed()
    settle()
    expect {
      state = "confirm", saved = { refund = { id = "re_1" } },
      effects = { { operation = create, attempts = 8 },
                  { operation = list, probe = true, query = { payment_intent = "pi_1" } } },
    }
  end),

  test("when the list does not tell either, a person has to look", function()
    reply(create, function() return lost_reply end)
    reply(list, { data = {}, has_more = true })
    signed()
    settle()
    expect { status = "held", state = "refund", waiting = { "operator refund" },
             why = "Whether its effect happened is not known" }
  end),

  test("refunded before: a refund of the same amount is taken over as ours", function()
    reply(create, failure { class = "terminal", code = "charge_already_refunded" })
    reply(list, { data = { refund "succeeded" }, has_more = false })
    sql("record", 1)
    traveller_is_told()
    signed()
    expect {
      status = "succeeded", state = "done",
      path = { "find_payment", "open_refund", "review", "refund", "look", "found_ours", "record", "where_it_stands",
               "settle", "find_traveller", "tell", "done" },
    }
  end),

  test("refunded before by another amount: the lead has to find a way", function()
    reply(create, failure { class = "terminal", code = "charge_already_refunded", message = "has been refunded" })
    reply(list, { data = { refund("succeeded", { amount = 100 }) }, has_more = false })
    row_is_closed()
    signed()
    lead_is_told "charge_already_refunded: has been refunded"
  end),

  test("a stored error of Stripe's is never repeated", function()
    reply(create, http { status = 500, headers = { ["idempotent-replayed"] = "true" },
                         json = { error = { message = "broken" } } })
    reply(list, { data = {}, has_more = false })
    row_is_closed()
    signed()
    expect { effects = { { operation = create, attempts = 1 }, list, mail } }
    lead_is_told "stored_error: broken"
  end),

  test("refused by Stripe: the row says why", function()
    reply(create, failure { class = "terminal", code = "charge_disputed", message = "in dispute" })
    row_is_closed()
    signed()
    expect { statements = { "find_payment", "open_refund",
                            { state = "close_failed", args = { r1, "charge_disputed: in dispute" } } } }
    lead_is_told "charge_disputed: in dispute"
  end),

  test("failed later on: money is back at our balance, the lead knows why", function()
    reply(create, refund "pending")
    sql("record", 1)
    row_is_closed()
    signed()
    stripe_says("failed", "failed", { failure_reason = "declined" })
    lead_is_told "Stripe's refund re_1 failed: declined"
  end),

  test("of another amount than asked for: nothing is settled", function()
    reply(create, refund("succeeded", { amount = 1 }))
    sql("record", 1)
    reply(mail, { id = "mail_2" })
    signed()
    lead_is_told "re_1 is of 1 instead of 50000"
  end),

  test("no word from Stripe: it is asked every three days", function()
    reply(create, refund "pending")
    sql("record", 1)
    reply(retrieve, refund "pending", refund "succeeded")
    traveller_is_told()
    signed()
    pass "3d"
    expect { state = "confirm", saved = { looked = 1 } }
    pass "3d"
    expect { status = "succeeded", state = "done", saved = { looked = 2 },
             effects = { create, { operation = retrieve, path = "/v1/refunds/re_1" }, retrieve, mail } }
  end),

  test("still pending after two weeks: the lead is told", function()
    reply(create, refund "pending")
    sql("record", 1)
    reply(retrieve, function() return refund "pending" end)
    reply(mail, { id = "mail_2" })
    signed()
    pass "15d"
    expect { saved = { looked = 5 } }
    lead_is_told "re_1 is pending"
  end),

  test("the mail bounces: the refund stands", function()
    reply(create, refund "succeeded")
    sql("record", 1)
    sql("settle", 1)
    given "update public.traveler_profiles set email = 'gone@example.com'"
    sql("find_traveller", { email = "gone@example.com", first_name = "Ada" })
    reply(mail, failure { class = "terminal", code = "validation_error" })
    signed()
    expect { status = "succeeded", state = "untold", result = { refund = "re_1", amount = 50000, told = false } }
  end),

  test("a traveller without an address", function()
    reply(create, refund "succeeded")
    sql("record", 1)
    sql("settle", 1)
    given "update public.traveler_profiles set email = null"
    sql("find_traveller", none)
    signed()
    expect { status = "succeeded", state = "untold" }
  end),

  test("the lead cannot be written to: the run ends as failed all the same", function()
    reply(create, failure { class = "terminal", code = "charge_disputed", message = "in dispute" })
    sql("close_failed", 1)
    reply(mail, failure { class = "terminal", code = "daily_quota_exceeded" })
    signed()
    expect { status = "failed", state = "failed", waiting = {} }
  end),

  test("a bad key holds the run; a retry keeps the effect's key", function()
    reply(create, http { status = 401, json = { error = { message = "Invalid API Key" } } }, refund "pending")
    sql("record", 1)
    signed()
    expect { status = "held", state = "refund", code = "unauthorized", why = "An operator can retry, skip or give up" }
    retry { reason = "the key is mended" }
    expect { state = "confirm", effects = { { operation = create, key = "refund:" .. p1, attempts = 2 } } }
  end),

  test("held: an operator knows the refund and skips, or gives up", function()
    reply(create, failure { class = "needs_person", code = "unauthorized" })
    sql("record", 1)
    traveller_is_told()
    signed()
    skip { reason = "made by hand", value = refund "succeeded" }
    expect { status = "succeeded", state = "done", saved = { refund = { id = "re_1" } } }
  end),

  test("held: an operator gives up", function()
    reply(create, failure { class = "needs_person", code = "unauthorized" })
    signed()
    refused("a reason is mandatory", give_up, {})
    give_up { by = "ops", reason = "paid in cash" }
    expect { status = "failed", waiting = {} }
    refused("is not held", retry, { reason = "again" })
  end),

  test("a statement that fails for a moment is repeated", function()
    in_memory "a deadlock does not come when it is called"
    reply(create, refund "pending")
    sql("record", sql_error "deadlock_detected", 1)
    signed()
    expect { state = "record", waiting = { "attempt record" } }
    settle()
    expect { state = "confirm" }
  end),

  test("cancelled while it is asked about: nothing was sent", function()
    booking_fails()
    cancel { by = "ops", reason = "the airline changed its mind" }
    expect { status = "cancelled", effects = {}, waiting = {}, approval = { status = "cancelled" },
             why = "was cancelled" }
  end),

  test("cancelled while Stripe is being asked: the answer is taken first", function()
    reply(create, function()
      cancel { by = "ops", reason = "too late" }
      return refund "pending"
    end)
    signed()
    expect { status = "cancelled", saved = { refund = { id = "re_1" } }, effects = { create } }
  end),
}
