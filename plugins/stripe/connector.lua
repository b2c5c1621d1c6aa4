-- Stripe: refunds, and the events that tell how they ended.
--
-- Contract: https://docs.stripe.com/api/refunds
--           https://docs.stripe.com/api/idempotent_requests
--           https://docs.stripe.com/error-low-level
-- What a reply means follows the official client (stripe-node, RequestSender):
-- the header stripe-should-retry wins; without it 409 and 5xx are tried again.
--
-- Two traps are handled here:
--  * API v1 stores the reply of a key once execution began, a 500 too, and plays
--    it back for at least a day. Trying again under that key can never succeed,
--    and a new key could refund twice. So a stored 5xx is `stored_error`, for a
--    person (or the workflow) who looks at the list of refunds first.
--  * A 5xx says nothing about whether the refund was made: it is ambiguous. The
--    engine repeats it under the same key, and in the end runs the probe.

-- The version the tests' official client speaks.
local version = "2026-08-26.dahlia"

-- A code that fits our codes, or the fallback.
local function word(text, fallback)
  if type(text) == "string" and #text <= 63 and text:find("^[a-z][a-z0-9_]*$") then return text end
  return fallback
end

-- The members a workflow has a use for. Bank details (destination_details,
-- next_action) stay at Stripe.
local function refund_of(r)
  return {
    id = r.id, status = r.status, amount = r.amount, currency = r.currency,
    payment_intent = r.payment_intent, charge = r.charge, reason = r.reason,
    failure_reason = r.failure_reason, created = r.created, metadata = r.metadata,
  }
end

local function is_object(v, kind)
  return type(v) == "table" and v.object == kind
end

local function failed(res)
  local e = type(res.json) == "table" and res.json.error
  if type(e) ~= "table" then e = {} end
  local status, advice = res.status, res.headers["stripe-should-retry"]
  local replayed = res.headers["idempotent-replayed"] == "true"
  local code = word(e.code, word(e.type, "http_" .. status))
  local message = type(e.message) == "string" and e.message or ("Stripe answered " .. status)
  local function as(class, name)
    return failure { class = class, code = name or code, message = message,
                     retry_after = class == "retryable" and retry_seconds(res.headers) or nil }
  end

  if status >= 500 then
    if advice == "false" or replayed then return as("needs_person", "stored_error") end
    return as("ambiguous")
  end
  if status == 409 and code == "idempotency_key_in_use" then
    -- an earlier request of ours is still being worked on: it may well succeed
    return as(advice == "false" and "needs_person" or "ambiguous")
  end
  if advice == "true" then return as("retryable") end
  if advice ~= "false" and (status == 409 or status == 429) then return as("retryable") end
  if status == 401 then return as("needs_person", "unauthorized") end
  if status == 403 then return as("needs_person", "forbidden") end
  if e.type == "idempotency_error" then
    -- the same key with other parameters: a bug of ours, and nothing to repeat
    return as("needs_person", "idempotency_error")
  end
  if status >= 400 then return as("terminal") end
  return as("needs_person", "unexpected_reply")
end

-- reads: res → value
local function one(res)
  if res.status ~= 200 then return failed(res) end
  if not is_object(res.json, "refund") then
    return failure { class = "ambiguous", code = "unreadable_reply", message = "Stripe answered 200 without a refund" }
  end
  return ok(refund_of(res.json))
end

local function list(res)
  if res.status ~= 200 then return failed(res) end
  if not is_object(res.json, "list") or type(res.json.data) ~= "table" then
    return failure { class = "retryable", code = "unreadable_reply", message = "Stripe answered 200 without a list" }
  end
  local data = {}
  for i, r in ipairs(res.json.data) do data[i] = refund_of(r) end
  return ok { data = json.array(data), has_more = res.json.has_more == true }
end

-- Codes any request may end with.
local common = { "unauthorized", "forbidden", "invalid_request_error", "resource_missing", "rate_limit",
                 "rate_limit_error", "lock_timeout", "api_error", "stored_error", "unexpected_reply",
                 "unreadable_reply" }
local function codes(more)
  local all = {}
  for _, c in ipairs(common) do all[#all + 1] = c end
  for _, c in ipairs(more) do all[#all + 1] = c end
  return all
end

return connector_definition "stripe" {
  base    = "https://api.stripe.com",
  hosts   = { "api.stripe.com" },
  secrets = { "STRIPE_SECRET_KEY" },
  headers = { authorization = bearer "STRIPE_SECRET_KEY", ["stripe-version"] = version },

  operations = {
    ["refunds.create"] = {
      method = "POST", path = "/v1/refunds",
      repeats = by_key { header = "idempotency-key", window = "24h" },
      destructive = true,
      arg = {
        payment_intent = text,
        amount = optional(integer), -- minor units; without it all that is left
        reason = optional(one_of { "duplicate", "fraudulent", "requested_by_customer" }),
        metadata = optional(any),   -- texts by name
      },
      request = function(arg)
        return { form = { payment_intent = arg.payment_intent, amount = arg.amount,
                          reason = arg.reason, metadata = arg.metadata } }
      end,
      reply = one,
      errors = codes { "charge_already_refunded", "charge_disputed", "refund_disputed_payment",
                       "charge_not_refundable", "amount_too_large", "amount_too_small",
                       "payment_intent_unexpected_state", "parameter_missing", "parameter_unknown",
                       "parameter_invalid_integer", "idempotency_error", "idempotency_key_in_use" },
    },

    ["refunds.list"] = {
      method = "GET", path = "/v1/refunds",
      repeats = by_nature, read = true,
      arg = { payment_intent = optional(text), charge = optional(text), limit = optional(integer),
              starting_after = optional(text) },
      request = function(arg)
        return { query = { payment_intent = arg.payment_intent, charge = arg.charge,
                           limit = arg.limit or 100, starting_after = arg.starting_after } }
      end,
      reply = list,
      errors = codes {},
    },

    ["refunds.retrieve"] = {
      method = "GET", path = "/v1/refunds/{id}",
      repeats = by_nature, read = true,
      arg = { id = text },
      request = function(arg) return { path = "/v1/refunds/" .. urlencode(arg.id) } end,
      reply = one,
      errors = codes {},
    },
  },

  webhook = {
    scheme = "stripe",
    secrets = { "STRIPE_WEBHOOK_SECRET", "STRIPE_WEBHOOK_SECRET_PREVIOUS" },
    tolerance = "300s",
    -- refund.created, refund.updated, refund.failed and charge.refund.updated carry the
    -- refund; charge.refunded carries the charge. Each goes to the mailbox of its object's
    -- id, and to the one of its payment intent for those who know only that.
    event = function(body)
      local object = type(body.data) == "table" and body.data.object
      if type(body.id) ~= "string" or type(body.type) ~= "string" or type(object) ~= "table" then
        error("not a Stripe event: id, type and data.object are expected", 0)
      end
      local name, deliver = "stripe." .. body.type, {}
      if type(object.id) == "string" then deliver[1] = { name = name, key = object.id } end
      if type(object.payment_intent) == "string" then
        deliver[#deliver + 1] = { name = name, key = object.payment_intent }
      end
      return { id = body.id, type = body.type, deliver = json.array(deliver) }
    end,
  },
}
