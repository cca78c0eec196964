-- For wrk: every answer is checked and counted by version; the connections of every second thread end with their request.
-- What came of it is written as lines of words between tabs (clients_lib.py). Argument: milliseconds between two requests of
-- a connection.
local threads = {}

function setup(thread)
   thread:set("number", #threads)
   table.insert(threads, thread)
end

function init(args)
   pause, count, answers, wrong = tonumber(args[1]), 0, {}, {}
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

function response(status, headers, body)
   local who = headers["x-replica"] or ""
   local path = body:sub(#who + 2)
   if status == 200 and body:sub(1, #who + 1) == who .. " " and path:match("^/" .. number .. "/%d+$") then
      local version = who:match("^[^/]*")
      answers[version] = (answers[version] or 0) + 1
   else
      table.insert(wrong, status .. " " .. body:sub(1, 200):gsub("%s", " "))
   end
end

function done(summary, latency, requests)
   for _, thread in ipairs(threads) do
      for version, n in pairs(thread:get("answers")) do
         print("answers", version, n)
      end
      for _, text in ipairs(thread:get("wrong")) do
         print("wrong", text)
      end
   end
   for _, kind in ipairs({"connect", "read", "write", "timeout"}) do
      if summary.errors[kind] > 0 then
         print("wrong", summary.errors[kind] .. " errors of " .. kind)
      end
   end
end
