-- The external recorder of the chaos suite (tests/chaos/lib/recorder_process.mjs): a provider whose
-- every request is on its disk before it answers, and which fails in every way.
local function answer(res)
  if res.status == 200 then return ok(res.json) end
  if res.status == 402 then return failure { class = "terminal", code = "refused", message = "the recorder refuses" } end
  if res.status == 503 then return failure { class = "retryable", code = "busy", message = "later" } end
  return failure { class = "ambiguous", code = "broken", message = "status " .. res.status }
end

local effect = {
  arg = { tag = text, note = optional(any) },
  request = function(arg) return { json = arg } end,
  reply = answer,
  errors = { "refused", "busy", "broken" },
}
local function operation(fields)
  local op = {}
  for k, v in pairs(effect) do op[k] = v end
  for k, v in pairs(fields) do op[k] = v end
  return op
end

return connector_definition "recorder" {
  base = "https://recorder.example", hosts = { "recorder.example" },
  breaker = false, -- its failures are the point
  secrets = { "CHAOS_KEY" },
  operations = {
    put  = operation { method = "POST", path = "/put", repeats = by_key { header = "idempotency-key", window = "24h" } },
    once = operation { method = "POST", path = "/once", repeats = never,
      request = function(arg, ctx) return { json = arg, headers = { ["x-key"] = ctx.key } } end },
    undo = operation { method = "POST", path = "/undo", repeats = by_key { header = "idempotency-key", window = "24h" } },
    mint = operation { method = "POST", path = "/mint", repeats = by_key { header = "idempotency-key", window = "24h" }, secret = "key" },
    late = operation { method = "POST", path = "/late", repeats = by_key { header = "idempotency-key", window = "24h" } },
    find = { method = "GET", path = "/find", read = true, arg = { key = text },
      request = function(arg) return { query = { key = arg.key } } end, reply = answer, errors = { "busy", "broken" } },
    health = { method = "GET", path = "/health", read = true, reply = answer, errors = { "busy", "broken" } },
  },
}
