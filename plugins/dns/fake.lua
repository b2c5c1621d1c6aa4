-- A simulated DNS: answers as dns.so gives them, over HTTP. It judges nothing by
-- itself: what a name says is what it was told, beginning with the domain example.test.
--
-- POST /_fake/emit:
--   {"type":"set","operation":"txt","name":"x.test","value":{"found":true,"texts":["a"]}}
--   {"type":"set","operation":"dkim","name":"x.test","selector":"s1","value":{…}}
--   {"type":"fail","code":"servfail","class":"retryable","times":2}   the next calls fail

local status = { retryable = 503, terminal = 422, ambiguous = 500, needs_person = 403 }

local function fails(class, code, message)
  return { status = status[class], json = { class = class, code = code, message = message } }
end

local function record(text, more)
  local v = { found = true, valid = true, record = text, problems = json.array {} }
  for name, value in pairs(more or {}) do v[name] = value end
  return v
end

local function key(operation, name, selector)
  return operation .. " " .. tostring(name):lower():gsub("%.$", "") .. (selector and (" " .. selector) or "")
end

local function beginning()
  local spf = "v=spf1 include:_spf.example.test -all"
  return {
    [key("a", "example.test")] = { found = true, addresses = { "192.0.2.10" }, ttl = 300 },
    [key("aaaa", "example.test")] = { found = true, addresses = { "2001:db8::10" }, ttl = 300 },
    [key("mx", "example.test")] = { found = true, exchanges = { { priority = 10, host = "mail.example.test" } } },
    [key("txt", "example.test")] = { found = true, texts = { spf } },
    [key("spf", "example.test")] = record(spf, { lookups = 1, all = "-", read = {
      { domain = "example.test", record = spf },
      { domain = "_spf.example.test", record = "v=spf1 ip4:192.0.2.0/24 -all" } } }),
    [key("dkim", "example.test", "mail")] = record("v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", {
      name = "mail._domainkey.example.test", key_type = "ed25519", bits = 256, testing = false, strict = false, revoked = false }),
    [key("dmarc", "example.test")] = record("v=DMARC1; p=reject; rua=mailto:dmarc@example.test", {
      name = "_dmarc.example.test", policy = "reject", subdomain_policy = "reject", percent = 100,
      rua = { "mailto:dmarc@example.test" }, ruf = json.array {}, alignment = { adkim = "relaxed", aspf = "relaxed" } }),
  }
end

local function due_failure(db)
  local f = db.failing
  if not f or f.times < 1 then return nil end
  f.times = f.times - 1
  return fails(f.class, f.code, "as the simulated DNS was told")
end

local function lookup(operation)
  return { "POST", "/" .. operation, function(req, db)
    return due_failure(db) or
      (db.answers[key(operation, req.json.name)] and { status = 200, json = db.answers[key(operation, req.json.name)] }) or
      fails("terminal", "nxdomain", req.json.name .. ": the name does not exist")
  end }
end

local function check(operation)
  return { "POST", "/" .. operation, function(req, db)
    local a = req.json
    return due_failure(db) or
      { status = 200, json = db.answers[key(operation, a.domain, a.selector)] or
        (a.organizational and db.answers[key(operation, a.organizational)]) or
        { found = false, valid = false, record = json.null,
          problems = { { severity = "error", code = "no_record", message = a.domain .. " has no record" } } } }
  end }
end

return fake "dns" {
  init = function(db) db.answers = beginning() end,

  routes = {
    lookup "a", lookup "aaaa", lookup "mx", lookup "txt",
    check "spf", check "dkim", check "dmarc",
  },

  emit = function(what, db)
    if what.type == "set" then
      db.answers[key(what.operation, what.name, what.selector)] = what.value
    elseif what.type == "fail" then
      db.failing = { class = what.class or "retryable", code = what.code or "servfail", times = what.times or 1 }
    else
      error("the simulated DNS can emit set and fail", 0)
    end
    return { status = 200, json = { ok = true } }
  end,
}
