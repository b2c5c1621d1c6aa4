-- A simulated Stripe: payment intents that were paid, and their refunds.
--
-- It keeps Stripe's word where it matters to a client that may crash at any time:
--  * a key is remembered with its parameters: the same again plays back the stored
--    reply (a 500 too) with idempotent-replayed; other parameters are an
--    idempotency_error; a key still in work answers 409; after 24 hours it is forgotten,
--    and the same request would refund again;
--  * replies from before execution began (no key, bad parameters) are not stored;
--  * a refund is `pending` first and gets its final status later, told by signed
--    events: refund.created and charge.refunded, then refund.updated or
--    refund.failed.
-- Contract: https://docs.stripe.com/api/refunds, …/api/idempotent_requests,
--           …/api/errors, …/refunds
--
-- POST /_fake/emit is the hand of a test:
--   {"type":"payment","id":"pi_…","amount":50000,"currency":"usd"}  a paid payment intent
--   {"type":"outcome","status":"succeeded|failed|pending","after":1,"failure_reason":"…"}
--                                     how refunds made from now on end, and after how many seconds
--   {"type":"work","seconds":2}       how long a refund is in work (answers come late)
--   {"type":"break","times":1,"after_effect":true}  the next refunds answer a stored 500
--   {"type":"refund_status","id":"re_…","status":"failed"}  what happens to a refund weeks later

local version = "2026-08-26.dahlia"
local remembered = 24 * 3600 * 1000000 -- a key, in microseconds

local function fails(status, kind, message, more)
  local e = { type = kind, message = message }
  for k, v in pairs(more or {}) do e[k] = v end
  return { status = status, json = { error = e } }
end

local function invalid(message, param, code, status)
  return fails(status or 400, "invalid_request_error", message, { param = param, code = code })
end

local function seconds(ctx) return ctx.now // 1000000 end

-- ---- objects -------------------------------------------------------------

local function plant(db, ctx, id, amount, currency)
  db.payments[id] = { id = id, amount = amount, currency = currency, refunded = 0,
                      charge = ctx.id("ch_"), created = seconds(ctx) }
  return db.payments[id]
end

local function payment_json(p)
  return { id = p.id, object = "payment_intent", amount = p.amount, amount_received = p.amount,
           currency = p.currency, status = "succeeded", latest_charge = p.charge, created = p.created,
           livemode = false, metadata = {} }
end

local function charge_json(p)
  return { id = p.charge, object = "charge", amount = p.amount, amount_refunded = p.refunded,
           currency = p.currency, payment_intent = p.id, refunded = p.refunded >= p.amount,
           paid = true, status = "succeeded", created = p.created, livemode = false }
end

-- A refund's end comes by itself: whoever looks after `ends_at` sees it.
local function settle(r, ctx)
  if r.status == "pending" and r.ends_at and ctx.now >= r.ends_at then
    r.status, r.failure_reason, r.ends_at = r.ends_as, r.ends_why, nil
  end
  return r
end

local function refund_json(r)
  local function or_null(v) if v == nil then return json.null end return v end
  local out = { id = r.id, object = "refund", amount = r.amount, balance_transaction = json.null,
                charge = r.charge, created = r.created, currency = r.currency, customer = json.null,
                customer_account = json.null, destination_details = { type = "card" },
                metadata = r.metadata, payment_intent = r.payment_intent,
                payment_method = json.null, reason = or_null(r.reason), receipt_number = json.null,
                source_transfer_reversal = json.null, status = r.status, transfer_reversal = json.null }
  if r.failure_reason then out.failure_reason = r.failure_reason end
  return out
end

-- ---- events --------------------------------------------------------------

local function tell(ctx, kind, object, delay)
  ctx.webhook {
    source = "stripe", scheme = "stripe", delay = delay,
    body = { id = ctx.id("evt_"), object = "event", api_version = version, created = seconds(ctx),
             livemode = false, pending_webhooks = 1, type = kind, data = { object = object },
             request = { id = json.null, idempotency_key = json.null } },
  }
end

local function tell_end(ctx, r, delay)
  if r.status == "failed" then tell(ctx, "refund.failed", refund_json(r), delay) end
  tell(ctx, "refund.updated", refund_json(r), delay)
  tell(ctx, "charge.refund.updated", refund_json(r), delay)
end

-- ---- refunds -------------------------------------------------------------

local known = { payment_intent = true, charge = true, amount = true, reason = true, metadata = true,
                expand = true, instructions_email = true, refund_application_fee = true,
                reverse_transfer = true, origin = true, customer = true, currency = true }
local reasons = { duplicate = true, fraudulent = true, requested_by_customer = true }

-- What is wrong with the parameters, before anything is executed: not stored.
local function check(form)
  for name in pairs(form) do
    if not known[name] then return invalid("Received unknown parameter: " .. name, name, "parameter_unknown") end
  end
  if not form.payment_intent and not form.charge then
    return invalid("One of the following params should be provided for this request: payment_intent or charge.",
                   nil, "parameter_missing")
  end
  if form.amount then
    if not form.amount:find("^%d+$") or #form.amount > 12 then
      return invalid("Invalid integer: " .. form.amount, "amount", "parameter_invalid_integer")
    end
    if tonumber(form.amount) < 1 then
      return invalid("Invalid positive integer", "amount", "parameter_invalid_integer")
    end
  end
  if form.reason and not reasons[form.reason] then
    return invalid("Invalid reason: must be one of duplicate, fraudulent, or requested_by_customer", "reason")
  end
  if form.metadata ~= nil and type(form.metadata) ~= "table" then
    return invalid("Invalid object", "metadata")
  end
end

local function payment_of(form, db)
  if form.payment_intent then return db.payments[form.payment_intent] end
  for _, p in pairs(db.payments) do if p.charge == form.charge then return p end end
end

local function make(p, amount, form, db, ctx)
  local o = db.outcome
  local r = { id = ctx.id("re_"), amount = amount, currency = p.currency, payment_intent = p.id, charge = p.charge,
              reason = form.reason, metadata = form.metadata or {}, status = "pending", created = seconds(ctx),
              order = db.count + 1 }
  db.count, db.refunds[r.id], p.refunded = r.order, r, p.refunded + amount
  tell(ctx, "refund.created", refund_json(r))
  tell(ctx, "charge.refunded", charge_json(p))
  if o.status ~= "pending" then
    local after = { }
    for k, v in pairs(r) do after[k] = v end
    r.ends_at, r.ends_as = ctx.now + o.after * 1000000 // 1, o.status
    r.ends_why = o.status == "failed" and (o.failure_reason or "unknown") or nil
    after.status, after.failure_reason = r.ends_as, r.ends_why
    tell_end(ctx, after, o.after)
  end
  return r
end

local function create(form, db, ctx)
  local p = payment_of(form, db)
  if not p then
    local what = form.payment_intent and "payment_intent" or "charge"
    return invalid("No such " .. what .. ": '" .. (form[what] or "") .. "'", what, "resource_missing", 404)
  end
  local left = p.amount - p.refunded
  if left <= 0 then
    return invalid("Charge " .. p.charge .. " has already been refunded.", nil, "charge_already_refunded")
  end
  local amount = form.amount and math.tointeger(tonumber(form.amount)) or left
  if amount > left then
    return invalid(("Refund amount (%d) is greater than unrefunded amount on charge (%d)"):format(amount, left), "amount")
  end
  local broken = db.broken.times > 0
  if broken then db.broken.times = db.broken.times - 1 end
  if broken and not db.broken.after_effect then
    return fails(500, "api_error", "An unknown error occurred")
  end
  local r = make(p, amount, form, db, ctx)
  if broken then return fails(500, "api_error", "An unknown error occurred") end
  return { status = 200, json = refund_json(r) }
end

-- ---- idempotency ---------------------------------------------------------

local function with_headers(reply, ctx, key, more)
  reply.headers = { ["request-id"] = ctx.id("req_"), ["stripe-version"] = version, ["idempotency-key"] = key }
  for k, v in pairs(more or {}) do reply.headers[k] = v end
  return reply
end

-- The reply for a key that was used before, or nil.
local function seen(kept, params, key, ctx)
  if kept.params ~= params then
    return fails(400, "idempotency_error",
                 "Keys for idempotent requests can only be used with the same parameters they were first used with. " ..
                 "Try using a key other than '" .. key .. "' if you meant to execute a different request.")
  end
  if kept.busy_until and ctx.now < kept.busy_until then
    return with_headers(fails(409, "idempotency_error",
      "There is currently another in-progress request using this Idempotent Key (that probably means you submitted " ..
      "twice, and the other request is still going through): " .. key .. ". Please try again later.",
      { code = "idempotency_key_in_use" }), ctx, key, { ["stripe-should-retry"] = "true" })
  end
  return with_headers({ status = kept.status, json = kept.reply }, ctx, key,
                      { ["idempotent-replayed"] = "true", ["original-request"] = kept.request,
                        ["stripe-should-retry"] = kept.status >= 500 and "false" or nil })
end

local function idempotent(req, db, ctx, check_first, execute)
  local key = req.headers["idempotency-key"]
  local params = json.encode { path = req.path, form = req.form or {} }
  if key and #key > 255 then return invalid("Idempotency keys can be up to 255 characters long.") end
  local kept = key and db.keys[key]
  if kept and ctx.now - kept.at < remembered then return seen(kept, params, key, ctx) end
  local wrong = check_first(req.form or {})
  if wrong then return with_headers(wrong, ctx) end
  local reply = with_headers(execute(req.form or {}, db, ctx), ctx, key)
  if reply.status >= 500 then reply.headers["stripe-should-retry"] = "false" end
  if key then
    db.keys[key] = { params = params, at = ctx.now, status = reply.status, reply = reply.json,
                     request = reply.headers["request-id"],
                     busy_until = db.work > 0 and ctx.now + db.work * 1000000 // 1 or nil }
  end
  if db.work > 0 then ctx.delay(db.work) end
  return reply
end

-- ---- doors ---------------------------------------------------------------

-- Only whoever has a secret key is let in; returns what refuses them.
local function refused(req)
  local given = req.headers.authorization or ""
  local key = given:match("^Bearer%s+(%S+)$")
  if not key then
    return fails(401, "invalid_request_error", "You did not provide an API key. You need to provide your API key in the " ..
                 "Authorization header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').")
  end
  if not key:find("^[sr]k_test_%w") then
    return fails(401, "invalid_request_error", "Invalid API Key provided")
  end
end

local function door(handler)
  return function(req, db, ctx) return refused(req) or handler(req, db, ctx) end
end

local function list(req, db, ctx)
  local q, all, data = req.query, {}, {}
  local limit = math.tointeger(tonumber(q.limit or "10"))
  if not limit or limit < 1 or limit > 100 then
    return invalid("Invalid limit: must be between 1 and 100", "limit")
  end
  for _, r in pairs(db.refunds) do
    if (not q.payment_intent or r.payment_intent == q.payment_intent) and (not q.charge or r.charge == q.charge) then
      all[#all + 1] = r
    end
  end
  table.sort(all, function(a, b) return a.order > b.order end) -- newest first
  local from = 1
  if q.starting_after then
    local found
    for i, r in ipairs(all) do if r.id == q.starting_after then found = i + 1 end end
    if not found then return invalid("No such refund: '" .. q.starting_after .. "'", "starting_after", "resource_missing") end
    from = found
  end
  for i = from, math.min(#all, from + limit - 1) do data[#data + 1] = refund_json(settle(all[i], ctx)) end
  return { status = 200, json = { object = "list", url = "/v1/refunds", has_more = #all > from + limit - 1,
                                  data = json.array(data) } }
end

local function retrieve(req, db, ctx)
  local r = db.refunds[req.params.id]
  if not r then return invalid("No such refund: '" .. req.params.id .. "'", "id", "resource_missing", 404) end
  return with_headers({ status = 200, json = refund_json(settle(r, ctx)) }, ctx)
end

local function check_payment(form)
  if not (form.amount or ""):find("^[1-9]%d*$") then
    return invalid("Missing required param: amount.", "amount", "parameter_missing")
  end
  if not (form.currency or ""):find("^%a%a%a$") then
    return invalid("Missing required param: currency.", "currency", "parameter_missing")
  end
end

local function pay(form, db, ctx)
  local p = plant(db, ctx, ctx.id("pi_"), math.tointeger(tonumber(form.amount)), form.currency:lower())
  return { status = 200, json = payment_json(p) }
end

return fake "stripe" {
  init = function(db)
    db.payments, db.refunds, db.keys, db.count = {}, {}, {}, 0
    db.outcome = { status = "succeeded", after = 1 }
    db.work, db.broken = 0, { times = 0, after_effect = false }
    -- the payment of scripts/seed.sql
    db.payments["pi_3HoldpointDemo1"] = { id = "pi_3HoldpointDemo1", amount = 50000, currency = "usd", refunded = 0,
                                          charge = "ch_3HoldpointDemo1", created = 1752019200 }
  end,

  routes = {
    { "POST", "/v1/refunds", door(function(req, db, ctx) return idempotent(req, db, ctx, check, create) end) },
    { "GET", "/v1/refunds", door(list) },
    { "GET", "/v1/refunds/:id", door(retrieve) },
    -- a paid payment intent, as with confirm=true and a test card
    { "POST", "/v1/payment_intents", door(function(req, db, ctx) return idempotent(req, db, ctx, check_payment, pay) end) },
    { "GET", "/v1/payment_intents/:id", door(function(req, db)
      local p = db.payments[req.params.id]
      if not p then return invalid("No such payment_intent: '" .. req.params.id .. "'", "intent", "resource_missing", 404) end
      return { status = 200, json = payment_json(p) }
    end) },
  },

  emit = function(what, db, ctx)
    if what.type == "payment" then
      local p = db.payments[what.id] or plant(db, ctx, what.id, what.amount, what.currency or "usd")
      return { status = 200, json = payment_json(p) }
    elseif what.type == "outcome" then
      db.outcome = { status = what.status, after = what.after or 1, failure_reason = what.failure_reason }
      return { status = 200, json = db.outcome }
    elseif what.type == "work" then
      db.work = what.seconds
      return { status = 200, json = { work = db.work } }
    elseif what.type == "break" then
      db.broken = { times = what.times or 1, after_effect = what.after_effect == true }
      return { status = 200, json = db.broken }
    elseif what.type == "refund_status" then
      local r = db.refunds[what.id] or error("no refund " .. tostring(what.id), 0)
      r.status, r.failure_reason, r.ends_at = what.status, what.failure_reason, nil
      tell_end(ctx, r)
      return { status = 200, json = refund_json(r) }
    end
    error("the simulated Stripe can emit payment, outcome, work, break and refund_status", 0)
  end,
}
