-- Duffel: the airline's word on an order.
--
-- Contract: https://duffel.com/docs/api/overview/errors
--           https://duffel.com/docs/api/v2/webhooks
--           https://duffel.com/docs/api/orders/get-order-by-id
-- Duffel asks not to repeat a 500 or 502 but to write to its support with the
-- request id, so those are for a person. 503 and 504 are worth another try.
-- ratelimit-reset is a date here, where others give seconds; retry_seconds()
-- reads both.

local function word(text, fallback)
  if type(text) == "string" and #text <= 63 and text:find("^[a-z][a-z0-9_]*$") then return text end
  return fallback
end

-- {"errors":[{"type","code","title","message"}],"meta":{"request_id"}}
local function failed(res)
  local body = type(res.json) == "table" and res.json or {}
  local e = type(body.errors) == "table" and type(body.errors[1]) == "table" and body.errors[1] or {}
  local request = type(body.meta) == "table" and body.meta.request_id
  local status = res.status
  local code = word(e.code, word(e.type, "http_" .. status))
  local message = type(e.message) == "string" and e.message or ("Duffel answered " .. status)
  if type(request) == "string" then message = message .. " (Duffel request " .. request .. ")" end
  local function as(class, name)
    return failure { class = class, code = name or code, message = message,
                     retry_after = class == "retryable" and retry_seconds(res.headers) or nil }
  end

  if status == 401 then return as("needs_person", "unauthorized") end
  if status == 403 then return as("needs_person", "forbidden") end
  if status == 429 or status == 503 or status == 504 then return as("retryable") end
  if status >= 400 and status < 500 then return as("terminal") end
  return as("needs_person")
end

-- What to do with a reply: shape makes the value from its data.
local function reading(shape)
  return function(res)
    if res.status ~= 200 then return failed(res) end
    local data = type(res.json) == "table" and res.json.data
    if type(data) ~= "table" then
      return failure { class = "retryable", code = "unreadable_reply", message = "Duffel answered 200 without data" }
    end
    return ok(shape(data))
  end
end

local common = { "unauthorized", "forbidden", "not_found", "rate_limit_exceeded", "internal_server_error",
                 "bad_gateway", "service_unavailable", "gateway_timeout", "invalid_request_error",
                 "validation_error", "api_error", "airline_error", "unreadable_reply" }

return connector_definition "duffel" {
  base    = "https://api.duffel.com",
  hosts   = { "api.duffel.com" },
  secrets = { "DUFFEL_ACCESS_TOKEN" },
  headers = { authorization = bearer "DUFFEL_ACCESS_TOKEN", ["duffel-version"] = "v2", accept = "application/json" },

  operations = {
    ["orders.get"] = {
      method = "GET", path = "/air/orders/{id}",
      repeats = by_nature, read = true,
      arg = { id = text },
      request = function(arg) return { path = "/air/orders/" .. urlencode(arg.id) } end,
      -- What a workflow needs of an order; passengers and their documents stay at Duffel.
      reply = reading(function(o)
        return { id = o.id, booking_reference = o.booking_reference, total_amount = o.total_amount,
                 total_currency = o.total_currency, created_at = o.created_at, cancelled_at = o.cancelled_at,
                 live_mode = o.live_mode, metadata = o.metadata }
      end),
      errors = common,
    },

    -- Is the token good and the service there? The cheapest read Duffel has.
    ["ping"] = {
      method = "GET", path = "/air/airlines",
      repeats = by_nature, read = true,
      arg = {},
      request = function() return { query = { limit = 1 } } end,
      reply = reading(function() return { up = true } end),
      errors = common,
    },
  },

  webhook = {
    scheme = "duffel",
    secrets = { "DUFFEL_WEBHOOK_SECRET", "DUFFEL_WEBHOOK_SECRET_PREVIOUS" },
    tolerance = "300s", -- Duffel names none; the header carries a time, so we hold it to one
    event = function(body)
      local kind, data = body.type, type(body.data) == "table" and body.data or {}
      local object = type(data.object) == "table" and data.object or {}
      local id, key = body.id, object.id
      -- booking.failed is no event of Duffel's. A customer's own acceptance tests post it for
      -- order.creation_failed, with data.booking_id and no id; never with live_mode.
      if kind == "booking.failed" and body.live_mode ~= true and type(data.booking_id) == "string" then
        kind, key = "order.creation_failed", data.booking_id
        id = id or ("booking.failed:" .. data.booking_id)
      end
      if type(id) ~= "string" or type(kind) ~= "string" then
        error("not a Duffel event: id and type are expected", 0)
      end
      local deliver = {}
      if type(key) == "string" then deliver[1] = { name = "duffel." .. kind, key = key } end
      return { id = id, type = kind, deliver = json.array(deliver) }
    end,
  },
}
