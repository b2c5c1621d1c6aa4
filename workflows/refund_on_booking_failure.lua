-- refund_on_booking_failure: the airline refused the booking, so the money goes back.
--
-- The straight road, top to bottom:
--   the payment is found → a refund row is opened as `pending` with the exact
--   amount → somebody of `payments` signs the very request (from 500.00 up) →
--   Stripe is asked, under one key per payment → the answer is recorded → the
--   final word is awaited → row and payment are settled → the traveller is told.
--
-- The side roads:
--   nobody decides         the lead is written to and the question asked again, for a day
--   rejected               the row is closed with the reason and the run ends as failed;
--                          it stays the booking's one run: its statements are effects
--   already refunded,      Stripe's list is looked at: a refund of the same amount is
--   or a stored error      taken over as ours, anything else goes to the lead
--   refused, or failed     the row says why, and the lead has to find another way
--   later on               (Stripe returns a failed refund to our balance)
--   no word from Stripe    it is asked every three days; after two weeks the lead is told
--   the mail bounces       the refund stands; the result says that nobody was told
-- A bad key, a refused signature or an outcome that stays unknown is caught by
-- nothing here: the run is then held for an operator, and a retry keeps its key.
--
-- `pending`, and nothing else, is what Stripe calls a refund that was made but is
-- not final: https://docs.stripe.com/refunds#failed-refunds

local stripe, resend = connector "stripe", connector "resend"

local from = "Wallet <refunds@example.com>"
local lead = "payments-lead@example.com"
local approval_from = 50000 -- minor units; below that nobody is asked
local give_up_after = 24 * 3600 * 1000000 -- microseconds without a decision

-- Currencies without minor units: https://docs.stripe.com/currencies#zero-decimal
local whole = {}
for c in ("bif clp djf gnf jpy kmf krw mga pyg rwf ugx vnd vuv xaf xof xpf"):gmatch("%a+") do whole[c] = true end

local function money(payment)
  local unit = payment.currency:upper()
  if whole[payment.currency] then return ("%d %s"):format(payment.amount, unit) end
  return ("%d.%02d %s"):format(payment.amount // 100, payment.amount % 100, unit)
end

-- Ours among the refunds of the payment: the whole amount, and not given up.
local function ours(list, run)
  for _, r in ipairs(list.data) do
    if r.amount == run.payment.amount and r.status ~= "failed" and r.status ~= "canceled" then return r end
  end
  return false
end

-- One sentence for the row, the lead and the run's end.
local function why(run)
  local r, e = run.refund, run.error
  if not r then return e.code .. ": " .. e.message end
  if r.amount ~= run.payment.amount then
    return ("Stripe's refund %s is of %d instead of %d"):format(r.id, r.amount, run.payment.amount)
  end
  if type(r.failure_reason) == "string" then return ("Stripe's refund %s failed: %s"):format(r.id, r.failure_reason) end
  return ("Stripe's refund %s is %s"):format(r.id, r.status)
end

local function mail_to_lead(subject, text)
  return function(run)
    return { from = from, to = { lead }, subject = subject .. " for booking " .. run.payment.booking_id,
             text = text(run) .. "\n\nRun " .. run.id .. ", " .. money(run.payment) ..
                    ", payment " .. run.payment.intent .. "." }
  end
end

return workflow "refund_on_booking_failure" {
  doc     = "Give the traveller the money back when the airline refuses the booking.",
  trigger = webhook { "duffel", events = { "order.creation_failed" } },
  key     = function(run) -- one run per booking, for ever
    local d = run.input.data
    return d.object and d.object.id or d.booking_id
  end,
  -- data.booking_id is how acceptance tests name the booking (plugins/duffel)
  input   = { data = { object = optional { id = text }, booking_id = optional(text) } },

  sql "find_payment" {
    as   = service,
    one  = [[select p.id, p.booking_id, p.user_id, p.stripe_payment_intent_id as intent, p.amount, p.currency,
                    coalesce(b.reference, b.id) as reference
               from public.payments p join public.bookings b on b.id = p.booking_id
              where p.booking_id = $1 and p.status = 'succeeded']],
    args = { "{run.key}" },
    save = "payment", none = "nothing_to_refund",
  },

  sql "open_refund" {
    doc  = "From here on the wallet shows the refund as pending.",
    as   = service,
    one  = [[with failed as (
               update public.bookings set status = 'failed', updated_at = now() where id = $1
             )
             insert into public.refunds (booking_id, payment_id, user_id, payment_intent_id, amount, currency, run_id)
             values ($1, $2::uuid, $3::uuid, $4, $5::bigint, $6, $7::bigint)
             returning id, status]],
    args = { "{payment.booking_id}", "{payment.id}", "{payment.user_id}", "{payment.intent}", "{payment.amount}",
             "{payment.currency}", "{run.id}" },
    save = "row",
    catch = { unique_violation = "refund_exists" },
    set  = { asked_since = function(run) return run.now end, looked = 0 },
  },

  approval "review" {
    when      = function(run) return run.payment.amount >= approval_from end,
    of        = "refund",
    ask       = function(run)
      return ("Refund %s for booking %s? The airline refused it."):format(
        money(run.payment), run.payment.reference)
    end,
    evidence  = { "payment", "row" },
    approvers = "1 of payments",
    deadline  = "4h", reminders = { "1h", "3h" },
    rejected  = "close_rejected", expired = "escalate",
  },

  call "refund" {
    stripe.refunds.create,
    with = function(run)
      return { payment_intent = run.payment.intent, amount = run.payment.amount, reason = "requested_by_customer",
               metadata = { booking_id = run.payment.booking_id, refund_id = run.row.id } }
    end,
    key     = "refund:{payment.id}", -- one refund per payment, whatever happens to us
    save    = "refund",
    timeout = "20s",
    retry   = { attempts = 8, base = "1s", cap = "5m", total = "6h" },
    probe   = {
      stripe.refunds.list,
      with  = { payment_intent = "{payment.intent}" },
      found = function(reply, run)
        local r = ours(reply, run)
        if not r and reply.has_more then return nil end -- not all of it was seen
        return r
      end,
    },
    catch = { charge_already_refunded = "look", stored_error = "look", terminal = "close_failed" },
  },

  sql "record" {
    as   = service,
    exec = [[update public.refunds set stripe_refund_id = $2, updated_at = now() where id = $1::uuid]],
    args = { "{row.id}", "{refund.id}" },
  },

  choose "where_it_stands" {
    { when = function(run) return run.refund.amount ~= run.payment.amount end, next = "tell_lead" },
    { when = function(run) return run.refund.status == "succeeded" end, next = "settle" },
    { when = function(run) return run.refund.status == "failed" or run.refund.status == "canceled" end,
      next = "close_failed" },
    otherwise = "confirm",
  },

  await "confirm" {
    event   = { "stripe.refund.updated", "stripe.refund.failed" },
    key     = "{refund.id}",
    within  = "3d", timeout = "ask_stripe",
    set     = {
      refund = function(run)
        local r = run.event.data.object
        return { id = r.id, status = r.status, amount = r.amount, failure_reason = r.failure_reason }
      end,
    },
    next    = "where_it_stands",
  },

  sql "settle" {
    as   = service,
    exec = [[with r as (
               update public.refunds set status = 'succeeded', settled_at = now(), updated_at = now()
                where id = $1::uuid returning payment_id
             )
             update public.payments p set status = 'refunded', updated_at = now() from r where p.id = r.payment_id]],
    args = { "{row.id}" },
  },

  sql "find_traveller" {
    doc  = "Late and as the traveller: nobody else's address can come back.",
    as   = user("{payment.user_id}"),
    one  = [[select email, coalesce(first_name, 'traveller') as first_name from public.traveler_profiles
              where user_id = $1::uuid and email is not null]],
    args = { "{payment.user_id}" },
    save = "traveller", none = "untold",
  },

  call "tell" {
    resend.emails.send,
    with = function(run)
      return {
        from = from, to = { run.traveller.email }, subject = "Your money is on its way back",
        text = ("Hello %s,\n\nthe airline could not confirm your booking %s. We have refunded %s to the card you " ..
                "paid with; banks show it within 5 to 10 working days.\n"):format(
                run.traveller.first_name, run.payment.reference, money(run.payment)),
      }
    end,
    key   = "refund-mail:{payment.id}",
    retry = { attempts = 8, base = "2s", cap = "10m", total = "20h" },
    catch = { otherwise = "untold" },
  },

  succeed "done" {
    result = { refund = "{refund.id}", amount = "{payment.amount}", told = true },
  },

  ---- side roads ----

  succeed "untold" {
    doc    = "The refund stands, but the traveller could not be written to.",
    result = { refund = "{refund.id}", amount = "{payment.amount}", told = false },
  },

  succeed "nothing_to_refund" {
    doc    = "No succeeded payment belongs to this booking.",
    result = { booking = "{run.key}", refunded = false },
  },

  fail "refund_exists" {
    code    = "refund_exists",
    message = "booking {payment.booking_id} has a refund that is pending or made; a second one would be one too many",
  },

  -- Nobody decided: louder, then ask again.
  call "escalate" {
    resend.emails.send,
    with  = mail_to_lead("A refund waits for a decision", function() return
              "Nobody of the payments group has decided within four hours. The question is open again." end),
    catch = { otherwise = "ask_again" }, -- asking again matters more than the mail
    next  = "ask_again",
  },

  choose "ask_again" {
    { when = function(run) return run.now - run.asked_since >= give_up_after end, next = "close_expired" },
    otherwise = "review",
  },

  sql "close_expired" {
    as   = service,
    exec = [[update public.refunds set status = 'expired', updated_at = now() where id = $1::uuid]],
    args = { "{row.id}" },
  },

  fail "undecided" {
    code    = "nobody_decided",
    message = "nobody decided about the refund of booking {payment.booking_id}",
  },

  sql "close_rejected" {
    as   = service,
    exec = [[update public.refunds set status = 'rejected', failure_reason = $2, updated_at = now() where id = $1::uuid]],
    args = { "{row.id}", "{decision.reason}" },
  },

  fail "closed" {
    code    = "rejected",
    message = "{decision.by} rejected the refund: {decision.reason}",
  },

  -- The answer was "already refunded", or one that Stripe will repeat for ever.
  call "look" {
    stripe.refunds.list,
    with  = { payment_intent = "{payment.intent}" },
    save  = "refunds",
    retry = { attempts = 8, base = "1s", cap = "5m" },
    set   = { refund = function(run) return ours(run.refunds, run) end },
  },

  choose "found_ours" {
    { when = function(run) return run.refund and true or false end, next = "record" },
    otherwise = "close_failed",
  },

  -- No event came: perhaps it was lost.
  call "ask_stripe" {
    stripe.refunds.retrieve,
    with  = { id = "{refund.id}" },
    save  = "refund",
    retry = { attempts = 8, base = "1s", cap = "5m" },
    set   = { looked = function(run) return run.looked + 1 end },
  },

  choose "still_pending" {
    { when = function(run) return run.looked >= 5 and run.refund.status == "pending" end, next = "tell_lead" },
    otherwise = "where_it_stands",
  },

  sql "close_failed" {
    as   = service,
    exec = [[update public.refunds set status = 'failed', failure_reason = $2, updated_at = now() where id = $1::uuid]],
    args = { "{row.id}", why },
  },

  call "tell_lead" {
    resend.emails.send,
    with  = mail_to_lead("A refund did not go through", function(run) return
              "The traveller has not got the money back: " .. why(run) .. ". It needs another way." end),
    catch = { otherwise = "failed" },
  },

  fail "failed" {
    code    = "refund_failed",
    message = function(run) return "the refund did not go through: " .. why(run) end,
  },
}
