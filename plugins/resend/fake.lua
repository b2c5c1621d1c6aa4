-- A simulated Resend: mail that is accepted and kept, never sent.
-- Contract: https://resend.com/docs/api-reference/emails/send-email, …/errors,
--           …/rate-limit (ratelimit-reset in seconds), …/dashboard/emails/idempotency-keys
--
-- POST /_fake/emit:
--   {"type":"email.delivered|email.bounced|…","email_id":"…"}   the signed webhook
--   {"type":"quota","name":"daily_quota_exceeded","times":1}    the next mails are over a quota
--   {"type":"work","seconds":2}                                 how long a mail is in work

local remembered = 24 * 3600 * 1000000 -- a key, in microseconds

local names = { "from", "to", "cc", "bcc", "reply_to", "subject", "text", "html", "headers", "tags",
                "attachments", "scheduled_at" }
local known = {}
for _, n in ipairs(names) do known[n] = true end

local function headers(more)
  local h = { ["ratelimit-limit"] = "2", ["ratelimit-remaining"] = "1", ["ratelimit-reset"] = "1" }
  for k, v in pairs(more or {}) do h[k] = v end
  return h
end

local function fails(status, name, message, more)
  return { status = status, headers = headers(more), json = { statusCode = status, name = name, message = message } }
end

local function refused(req)
  local key = (req.headers.authorization or ""):match("^Bearer%s+(%S+)$")
  if not key then return fails(401, "missing_api_key", "Missing API key in the authorization header.") end
  if not key:find("^re_%w") then return fails(403, "invalid_api_key", "API key is invalid.") end
end

-- One address or a list of up to fifty.
local function addresses(v)
  if type(v) == "string" then return { v } end
  if type(v) == "table" then return v end
  return {}
end

local function check(mail)
  for name in pairs(mail) do
    if not known[name] then return fails(422, "invalid_parameter", "Unknown field `" .. name .. "`.") end
  end
  for _, name in ipairs { "from", "to", "subject" } do
    if mail[name] == nil then return fails(422, "missing_required_field", "Missing `" .. name .. "` field.") end
  end
  if mail.text == nil and mail.html == nil then
    return fails(422, "missing_required_field", "Missing `html` or `text` field.")
  end
  if type(mail.from) ~= "string" or not mail.from:find("[^%s<>]@[%w.-]+%.%w+>?$") then
    return fails(422, "invalid_from_address", "Invalid `from` field.")
  end
  local to = addresses(mail.to)
  if #to < 1 or #to > 50 then return fails(422, "validation_error", "Invalid `to` field.") end
  for _, a in ipairs(to) do
    if type(a) ~= "string" or not a:find("[^%s<>]@[%w.-]+%.%w+>?$") then
      return fails(422, "validation_error", "Invalid `to` field.")
    end
  end
end

local function send(mail, db, ctx)
  local id = ctx.id()
  db.count = db.count + 1
  db.mails[id] = { id = id, from = mail.from, to = json.array(addresses(mail.to)), subject = mail.subject,
                   text = mail.text, html = mail.html, order = db.count, at = ctx.now }
  return { status = 200, headers = headers(), json = { id = id } }
end

-- What an earlier request with this key came to, or nil.
local function seen(kept, body, ctx)
  if not kept or ctx.now - kept.at >= remembered then return nil end
  if kept.body ~= body then
    return fails(409, "invalid_idempotent_request",
                 "This idempotency key has been used on a request with a different payload.")
  end
  if kept.busy_until and ctx.now < kept.busy_until then
    return fails(409, "concurrent_idempotent_requests", "The original request is still in progress.")
  end
  return { status = 200, headers = headers(), json = { id = kept.id } }
end

local function post(req, db, ctx)
  local mail, key = req.json, req.headers["idempotency-key"]
  if type(mail) ~= "table" then return fails(400, "validation_error", "The request body is not valid JSON.") end
  if key and (#key < 1 or #key > 256) then
    return fails(400, "invalid_idempotency_key", "The key must be between 1-256 chars.")
  end
  local body = json.encode(mail)
  local wrong = key and seen(db.keys[key], body, ctx) or check(mail)
  if wrong then return wrong end
  if db.quota and db.quota.times > 0 then
    db.quota.times = db.quota.times - 1
    return fails(429, db.quota.name, "You have exceeded your email sending quota.")
  end
  local reply = send(mail, db, ctx)
  if key then
    db.keys[key] = { at = ctx.now, body = body, id = reply.json.id,
                     busy_until = db.work > 0 and ctx.now + db.work * 1000000 // 1 or nil }
  end
  if db.work > 0 then ctx.delay(db.work) end
  return reply
end

return fake "resend" {
  init = function(db)
    db.mails, db.keys, db.count, db.work = {}, {}, 0, 0
  end,

  routes = {
    { "POST", "/emails", function(req, db, ctx) return refused(req) or post(req, db, ctx) end },
    { "GET", "/emails/:id", function(req, db)
      local m = db.mails[req.params.id]
      local no = refused(req)
      if no then return no end
      if not m then return fails(404, "not_found", "Email not found") end
      return { status = 200, headers = headers(),
               json = { object = "email", id = m.id, from = m.from, to = m.to, subject = m.subject, text = m.text,
                        html = m.html, last_event = "delivered" } }
    end },
  },

  emit = function(what, db, ctx)
    if what.type == "quota" then
      db.quota = { name = what.name, times = what.times or 1 }
      return { status = 200, json = db.quota }
    elseif what.type == "work" then
      db.work = what.seconds
      return { status = 200, json = { work = db.work } }
    elseif type(what.type) == "string" and what.type:find("^email%.") then
      local m = db.mails[what.email_id] or error("no mail " .. tostring(what.email_id), 0)
      local body = { type = what.type, data = { email_id = m.id, from = m.from, to = m.to, subject = m.subject } }
      ctx.webhook { source = "resend", scheme = "standard", body = body }
      return { status = 200, json = body }
    end
    error("the simulated Resend can emit email.*, quota and work", 0)
  end,
}
