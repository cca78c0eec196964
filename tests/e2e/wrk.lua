-- For wrk: every answer is checked and counted by version; the connections of every second thread end with their request.
-- What came of it is written in lines of words between tabs (clients_lib.py), by twenties and at the end. Argument: milliseconds between two requests of
-- a connection.
local threads = {}

function setup(thread)
   thread:set("number", #threads)
   table.insert(threads, thread)
end

function init(args)
   pause, count, answers = tonumber(args[1]), 0, {}
   if number % 2 == 1 then
      headers = {Host = wrk.headers["Host"], Connection = "close"}
   end
end

function delay()
   return pause
end

function request()
   count = count + 1
   return wrk.format("GET", "/" .. number .. "/" .. count, headers)
end

-- In one piece: the threads share the output.
local function say(...)
   io.write(table.concat({...}, "\t") .. "\n")
   io.flush()
end

function response(status, headers, body)
   local who = headers["x-replica"] or ""
   local path = body:sub(#who + 2)
   if status ~= 200 or body:sub(1, #who + 1) ~= who .. " " or not path:match("^/" .. number .. "/%d+$") then
      say("wrong", status .. " " .. body:sub(1, 200):gsub("%s", " "))
      return
   end
   local version = who:match("^[^/]*")
   answers[version] = (answers[version] or 0) + 1
   if answers[version] == 20 then
      say("answers", version, 20)
      answers[version] = 0
   end
end

function done(summary, latency, requests)
   for _, thread in ipairs(threads) do
      for version, n in pairs(thread:get("answers")) do
         say("answers", version, n)
      end
   end
   for _, kind in ipairs({"connect", "read", "write", "timeout"}) do
      if summary.errors[kind] > 0 then
         say("wrong", summary.errors[kind] .. " errors of " .. kind)
      end
   end
end
