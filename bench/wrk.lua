-- What wrk asks: the first argument after `--` is get, get-varied or post. At the end one line of figures.
-- A constant X-Request-Id in the first two makes their requests equally long: only the sameness differs.

function init(args)
  wrk.headers["X-Request-Id"] = "00000000"
  if args[1] == "post" then
    wrk.method = "POST"
    wrk.headers["Content-Type"] = "application/json"
    wrk.body = '{"text":"' .. string.rep("t", 1013) .. '"}'
  elseif args[1] == "get-varied" then
    local before, after = wrk.format():match("^(.-X%-Request%-Id: )0+(.*)$")
    local number = 0
    function request()
      number = number + 1
      return before .. string.format("%08d", number) .. after
    end
  end
end

function done(summary, latency)
  local errors = summary.errors
  local lost = errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format("figures %d %d %d %d %d\n",
    summary.requests, summary.duration, errors.status, lost, latency:percentile(50)))
end
