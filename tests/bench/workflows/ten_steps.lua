-- Ten calls in a row, each saving what came back: the workflow of `make bench`.
local echo = connector "echo"

return workflow "ten_steps" {
  doc = "Ten calls of the in-process echo.",
  call "step_1" { echo.call, with = { n = 1 }, catch = { otherwise = "failed" } },
  call "step_2" { echo.call, with = { n = 2 }, catch = { otherwise = "failed" } },
  call "step_3" { echo.call, with = { n = 3 }, catch = { otherwise = "failed" } },
  call "step_4" { echo.call, with = { n = 4 }, catch = { otherwise = "failed" } },
  call "step_5" { echo.call, with = { n = 5 }, catch = { otherwise = "failed" } },
  call "step_6" { echo.call, with = { n = 6 }, catch = { otherwise = "failed" } },
  call "step_7" { echo.call, with = { n = 7 }, catch = { otherwise = "failed" } },
  call "step_8" { echo.call, with = { n = 8 }, catch = { otherwise = "failed" } },
  call "step_9" { echo.call, with = { n = 9 }, catch = { otherwise = "failed" } },
  call "step_10" { echo.call, with = { n = 10 }, catch = { otherwise = "failed" } },
  succeed "done" {},
  fail "failed" { message = "{error.message}" },
}
