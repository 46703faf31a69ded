-- Every read and write of a cache entry, atomically: compare, set, expire, publish.
--
-- KEYS[1]  the entry that is read and compared
-- KEYS[2]  the entry that is written or deleted (the same, but for what a renewal publishes; where a live lease holds
--          that one to copy, nothing is published over it, whatever the condition)
-- ARGV[1]  what to do: read | write | touch | drop
-- ARGV[2]  on what condition: any | vacant | same | held | takeable | idle | renewable | other-epoch |
--          served | unchanged
-- ARGV[3]  the token (or, for other-epoch and served, the epoch) to compare with
-- ARGV[4]  the status to compare with (for same)
-- ARGV[5]  time to live of what is written, in milliseconds
-- ARGV[6]  the channel on which to publish the change, or "" for none
-- ARGV[7]  the key to publish
-- ARGV[8…] fields and values to write, or (for unchanged) all that are there to compare with; where a field holds a time, "+N" is the moment N seconds from now by this server's clock
--
-- Returns {done (0 or 1), now in seconds, PTTL of KEYS[1], field, value, …}, as KEYS[1] was found.

local STATUS = { pending = true, present = true, error = true }
local TIMES = { since = true, expires_at = true, verified_at = true, retry_at = true }

local function sound(key)
  local kind = redis.call('TYPE', key)
  kind = kind.ok or kind
  if kind == 'none' then return nil end
  if kind == 'hash' and redis.call('PTTL', key) >= 0 then
    local entry = redis.call('HMGET', key, 'v', 'status', 'token', 'holder', 'epoch')
    if entry[1] == '1' and STATUS[entry[2]] and entry[3] then
      return { status = entry[2], token = entry[3], holder = entry[4], epoch = entry[5] }
    end
  end
  redis.call('DEL', key)
  return nil
end

local function held_to_copy(found)
  return found and found.status == 'pending' and found.holder == 'copying'
end

local entry = sound(KEYS[1])
local copying = held_to_copy(entry)
local condition, token = ARGV[2], ARGV[3]
local holds
if condition == 'any' then
  holds = true
elseif condition == 'vacant' then
  holds = not entry
elseif condition == 'same' then
  holds = not entry or (entry.token == token and entry.status == ARGV[4])
elseif condition == 'held' then
  holds = entry and entry.token == token and entry.status == 'pending'
elseif condition == 'takeable' then
  holds = not copying and (not entry or entry.status ~= 'present')
elseif condition == 'idle' then
  holds = not entry or entry.status == 'error' or (entry.status == 'pending' and entry.holder == 'queued')
elseif condition == 'renewable' then
  holds = not copying
elseif condition == 'other-epoch' then
  holds = entry and entry.epoch and entry.epoch ~= token
elseif condition == 'served' then
  holds = entry and entry.status == 'present' and entry.epoch == token
elseif condition == 'unchanged' then
  local there = entry and redis.call('HGETALL', KEYS[1]) or {}
  holds = entry and #there == #ARGV - 7
  for i = 1, #there do holds = holds and there[i] == ARGV[7 + i] end
end

if holds and KEYS[2] ~= KEYS[1] then holds = not held_to_copy(sound(KEYS[2])) end

local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local found = {}
local life = -2
if entry then
  found = redis.call('HGETALL', KEYS[1])
  life = redis.call('PTTL', KEYS[1])
end

if holds and ARGV[1] ~= 'read' then
  local target = KEYS[2]
  if ARGV[1] == 'drop' then
    redis.call('DEL', target)
  else
    if ARGV[1] == 'write' then redis.call('DEL', target) end
    for i = 8, #ARGV, 2 do
      local name, value = ARGV[i], ARGV[i + 1]
      if TIMES[name] and string.sub(value, 1, 1) == '+' then
        value = string.format('%.6f', now + tonumber(string.sub(value, 2)))
      end
      redis.call('HSET', target, name, value)
    end
    redis.call('PEXPIRE', target, ARGV[5])
    if target ~= KEYS[1] then redis.call('DEL', KEYS[1]) end
  end
  if ARGV[6] ~= '' then redis.call('PUBLISH', ARGV[6], ARGV[7]) end
end

local reply = { holds and 1 or 0, string.format('%.6f', now), life }
for i = 1, #found do reply[#reply + 1] = found[i] end
return reply
