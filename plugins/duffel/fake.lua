-- A simulated Duffel: orders that can be looked up, and the event that matters
-- here: an order accepted with 202 that the airline refused afterwards.
-- Contract: https://duffel.com/docs/api/v2/webhooks, …/api/overview/errors,
--           …/api/overview/rate-limiting (ratelimit-reset is a date)
--
-- POST /_fake/emit:
--   {"type":"order.creation_failed","booking":"ord_…","copies":1}   the signed webhook
--   {"type":"booking.failed","booking":"…","failure_reason":"…"}    the same as customers'
--                                      acceptance tests put it; not an event of Duffel's
--   {"type":"order","id":"ord_…","booking_reference":"…"}           an order to look up

local days = { "Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed" }
local months = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" }

-- Civil date of days since 1970 (proleptic Gregorian).
local function civil(n)
  local z = n + 719468
  local era = z // 146097
  local doe = z - era * 146097
  local yoe = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
  local doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
  local mp = (5 * doy + 2) // 153
  local month = mp < 10 and mp + 3 or mp - 9
  return yoe + era * 400 + (month <= 2 and 1 or 0), month, doy - (153 * mp + 2) // 5 + 1
end

local function stamp(us)
  local s = us // 1000000
  local y, m, d = civil(s // 86400)
  return ("%04d-%02d-%02dT%02d:%02d:%02d.%06dZ"):format(y, m, d, s % 86400 // 3600, s % 3600 // 60, s % 60, us % 1000000)
end

local function http_date(us)
  local s = us // 1000000
  local y, m, d = civil(s // 86400)
  return ("%s, %02d %s %04d %02d:%02d:%02d GMT"):format(days[s // 86400 % 7 + 1], d, months[m], y,
                                                          s % 86400 // 3600, s % 3600 // 60, s % 60)
end

local function headers(ctx)
  return { ["ratelimit-limit"] = "60", ["ratelimit-remaining"] = "59",
           ["ratelimit-reset"] = http_date(ctx.now + 60000000) }
end

local function fails(ctx, status, kind, code, title, message)
  return { status = status, headers = headers(ctx), json = {
    errors = json.array { { type = kind, code = code, title = title, message = message,
                            documentation_url = "https://duffel.com/docs/api/overview/errors" } },
    meta = { status = status, request_id = ctx.id("req_") } } }
end

local function door(handler)
  return function(req, db, ctx)
    if not (req.headers.authorization or ""):find("^Bearer duffel_%w") then
      return fails(ctx, 401, "authentication_error", "access_token_not_found", "Access token not found",
                   "The access token used is not recognised by our system")
    end
    if req.headers["duffel-version"] ~= "v2" then
      return fails(ctx, 400, "invalid_request_error", "unsupported_version", "Unsupported version",
                   "The version set to in the 'Duffel-Version' header is no longer supported by the API")
    end
    return handler(req, db, ctx)
  end
end

local function order(id, reference)
  return { id = id, booking_reference = reference or "RZPNX8", total_amount = "500.00", total_currency = "USD",
           created_at = "2025-07-09T00:00:00Z", cancelled_at = json.null, live_mode = false,
           metadata = {} }
end

local function creation_failed(what, ctx)
  return { id = ctx.id("wev_"), api_version = "v2", type = "order.creation_failed", live_mode = false,
           created_at = stamp(ctx.now), identity_organisation_id = "org_0000HoldpointDemo",
           idempotency_key = "failed-" .. what.booking,
           data = { object = { id = what.booking, live_mode = false } } }
end

local function booking_failed(what)
  return { type = "booking.failed",
           data = { booking_id = what.booking, failure_reason = what.failure_reason or "airline_rejected" } }
end

return fake "duffel" {
  init = function(db)
    db.orders = { ord_0000HoldpointDemo1 = order("ord_0000HoldpointDemo1") }
  end,

  routes = {
    { "GET", "/air/orders/:id", door(function(req, db, ctx)
      local o = db.orders[req.params.id]
      if not o then
        return fails(ctx, 404, "invalid_request_error", "not_found", "Not found",
                     "The resource you are trying to access does not exist.")
      end
      return { status = 200, headers = headers(ctx), json = { data = o } }
    end) },
    { "GET", "/air/airlines", door(function(_, _, ctx)
      return { status = 200, headers = headers(ctx), json = {
        data = json.array { { id = "arl_00001876aqC8c5umZmrRds", name = "British Airways", iata_code = "BA" } },
        meta = { limit = 1, before = json.null, after = json.null } } }
    end) },
  },

  emit = function(what, db, ctx)
    if what.type == "order" then
      db.orders[what.id] = order(what.id, what.booking_reference)
      return { status = 200, json = db.orders[what.id] }
    end
    local body
    if type(what.booking) ~= "string" then error("emit: booking is missing", 0) end
    if what.type == "order.creation_failed" then
      body = creation_failed(what, ctx)
    elseif what.type == "booking.failed" then
      body = booking_failed(what)
    else
      error("the simulated Duffel can emit order.creation_failed, booking.failed and order", 0)
    end
    ctx.webhook { source = "duffel", scheme = "duffel", body = body, copies = what.copies }
    return { status = 200, json = body }
  end,
}
