-- The in-process echo (`--echo`): a request comes back as its answer in the next
-- turn of the worker's loop. What is left is what the engine itself costs.
return connector_definition "echo" {
  base  = "https://echo.invalid", -- the bench says --base-url echo=echo://local
  hosts = { "echo.invalid" },
  operations = {
    ["call"] = {
      method  = "POST", path = "/",
      repeats = by_nature,
      arg     = { n = integer },
      request = function(arg) return { json = arg } end,
      reply   = function(res) return ok(res.json) end,
    },
  },
}
