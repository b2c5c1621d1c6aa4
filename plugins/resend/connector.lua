-- Resend: mail to people, and what became of it.
--
-- Contract: https://resend.com/docs/api-reference/emails/send-email
--           https://resend.com/docs/api-reference/errors
--           https://resend.com/docs/api-reference/rate-limit
--           https://resend.com/docs/dashboard/emails/idempotency-keys
-- The two 409s mean opposite things: the same key with another mail is a bug of
-- ours, the same key still in flight is an earlier attempt that may succeed. The
-- 429s differ as well: too many in a second passes, an exhausted quota does not
-- within any retry worth making.

local function word(text, fallback)
  if type(text) == "string" and #text <= 63 and text:find("^[a-z][a-z0-9_]*$") then return text end
  return fallback
end

-- {"statusCode","name","message"}
local function failed(res)
  local e = type(res.json) == "table" and res.json or {}
  local status = res.status
  local code = word(type(e.name) == "string" and e.name:lower() or nil, "http_" .. status)
  local message = type(e.message) == "string" and e.message or ("Resend answered " .. status)
  local function as(class)
    return failure { class = class, code = code, message = message,
                     retry_after = class == "retryable" and retry_seconds(res.headers) or nil }
  end

  if status == 409 then
    return as(code == "concurrent_idempotent_requests" and "ambiguous" or "needs_person")
  end
  if status == 429 then
    local quota = code == "daily_quota_exceeded" or code == "monthly_quota_exceeded"
    return as(quota and "terminal" or "retryable")
  end
  if status == 401 or status == 403 then return as("needs_person") end
  if status >= 500 then return as("ambiguous") end -- repeated under the same key
  if status >= 400 then return as("terminal") end
  return as("needs_person")
end

return connector_definition "resend" {
  base    = "https://api.resend.com",
  hosts   = { "api.resend.com" },
  secrets = { "RESEND_API_KEY" },
  headers = { authorization = bearer "RESEND_API_KEY" },

  operations = {
    ["emails.send"] = {
      method = "POST", path = "/emails",
      repeats = by_key { header = "idempotency-key", window = "24h" },
      arg = {
        from = text, to = list(text), subject = text,
        text = optional(text), html = optional(text), reply_to = optional(text),
      },
      request = function(arg)
        return { json = { from = arg.from, to = json.array(arg.to), subject = arg.subject,
                          text = arg.text, html = arg.html, reply_to = arg.reply_to } }
      end,
      reply = function(res)
        if res.status ~= 200 and res.status ~= 201 then return failed(res) end
        if type(res.json) ~= "table" or type(res.json.id) ~= "string" then
          return failure { class = "ambiguous", code = "unreadable_reply", message = "Resend answered without an id" }
        end
        return ok { id = res.json.id }
      end,
      errors = { "missing_api_key", "invalid_api_key", "restricted_api_key", "validation_error", "not_found",
                 "missing_required_field", "invalid_parameter", "invalid_from_address", "invalid_idempotency_key",
                 "invalid_idempotent_request", "concurrent_idempotent_requests", "rate_limit_exceeded",
                 "daily_quota_exceeded", "monthly_quota_exceeded", "application_error",
                 "internal_server_error", "unreadable_reply" },
    },
  },

  webhook = {
    scheme = "standard", -- under svix- names
    secrets = { "RESEND_WEBHOOK_SECRET", "RESEND_WEBHOOK_SECRET_PREVIOUS" },
    tolerance = "300s",
    event = function(body, headers)
      local id = headers["svix-id"] or headers["webhook-id"]
      if type(id) ~= "string" or type(body.type) ~= "string" then
        error("not a Resend event: a message id and type are expected", 0)
      end
      local data, deliver = type(body.data) == "table" and body.data or {}, {}
      if type(data.email_id) == "string" then
        deliver[1] = { name = "resend." .. body.type, key = data.email_id }
      end
      return { id = id, type = body.type, deliver = json.array(deliver) }
    end,
  },
}
