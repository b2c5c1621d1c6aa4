-- DNS: what a name says, and whether a domain's mail records are right.
--
-- Native (dns.so, by c-ares), because DNS is no HTTP. Everything is a read.
-- Contract: RFC 1035 (DNS), RFC 7208 (SPF), RFC 6376, 8301 and 8463 (DKIM),
--           RFC 7489 (DMARC), RFC 7505 (null MX).
-- Lookups: a name that does not exist is the failure nxdomain; one that exists
-- without such a record is found = false. Checks: both are found = false, because
-- "there is no record" is what was asked.

local passing = { "servfail", "refused", "timeout", "no_server", "bad_answer", "no_memory" } -- tried again
local lasting = { "bad_name", "bad_server", "formerr", "notimp" }

local function errors(more)
  local list = {}
  for _, group in ipairs { passing, lasting, more } do
    for _, code in ipairs(group) do list[#list + 1] = code end
  end
  return list
end

local function lookup(doc)
  return { doc = doc, read = true, arg = { name = text }, errors = errors { "nxdomain" } }
end

local function check(doc, arg)
  return { doc = doc, read = true, arg = arg, errors = errors {} }
end

return connector_definition "dns" {
  doc    = "DNS lookups and checks of SPF, DKIM and DMARC records.",
  native = true,

  operations = {
    a    = lookup "IPv4 addresses: { found, addresses, ttl }.",
    aaaa = lookup "IPv6 addresses: { found, addresses, ttl }.",
    mx   = lookup "Mail exchanges, to be tried in this order: { found, exchanges = { { priority, host }, … } }.",
    txt  = lookup "Texts, each with its strings joined: { found, texts }.",

    spf   = check("Who may send mail for a domain: { found, valid, record, problems, lookups, all, read }.",
                  { domain = text }),
    dkim  = check("A key that mail is signed with: { found, valid, record, problems, key_type, bits, … }.",
                  { domain = text, selector = text }),
    dmarc = check("What to do with mail that fails: { found, valid, record, problems, policy, … }.",
                  { domain = text, organizational = optional(text) }),
  },
}
