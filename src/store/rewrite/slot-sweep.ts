import type { SlotRange } from "../../cluster/slots/slot-ranges.ts";
import type { Words } from "../../resp/absolute-expiry.ts";

/**
 * Removes all keys of some slots, in every database, from a server that loads its append-only file. ARGV: the first
 * and the last slot of each range, both included.
 *
 * A server with cluster support knows the keys of a slot. Any other is asked for all its keys, and the slot is found as
 * `keySlot` does: bytes 123 and 125 are the braces of a hash tag.
 *
 * A server that loads runs scripts as its default user, and crashes where that may not run a command
 * ("Redis 8.0, script.c": scriptVerifyACL). So it is asked first, and refuses aloud: its log then names this reply.
 * Valkey from 9.0 (589824) runs them as nobody, who may do everything, and crashes where it is asked. Redis before 5 needs
 * to be told that a script which scans may write.
 */
const SWEEP = `if redis.replicate_commands then redis.replicate_commands() end
local may = redis.acl_check_cmd
if not may or (redis.VALKEY_VERSION_NUM or 0) >= 589824 then may = function() return true end end
local asked = { { 'INFO', 'keyspace' }, { 'SELECT', '0' }, { 'SCAN', '0', 'COUNT', '1000' }, { 'UNLINK', 'key' },
  { 'CLUSTER', 'GETKEYSINSLOT', '0', '1000' } }
for _, command in ipairs(asked) do
  if not may(unpack(command)) then
    return redis.error_reply('ERR the default user must be allowed to run ' .. command[1] .. ' to remove the keys of slots')
  end
end
local wanted = {}
for at = 1, #ARGV, 2 do
  for slot = tonumber(ARGV[at]), tonumber(ARGV[at + 1]) do wanted[slot] = true end
end
local removed = 0
local function remove(keys)
  for at = 1, #keys, 1000 do
    removed = removed + redis.call('UNLINK', unpack(keys, at, math.min(at + 999, #keys)))
  end
end
local function sweepSlots()
  for slot in pairs(wanted) do
    local keys = redis.call('CLUSTER', 'GETKEYSINSLOT', slot, 1000)
    while #keys > 0 do
      remove(keys)
      keys = redis.call('CLUSTER', 'GETKEYSINSLOT', slot, 1000)
    end
  end
end
local crcs = {}
for byte = 0, 255 do
  local crc = byte * 256
  for _ = 1, 8 do
    if crc >= 32768 then crc = bit.bxor((crc - 32768) * 2, 4129) else crc = crc * 2 end
  end
  crcs[byte] = crc
end
local bxor, find, bytes = bit.bxor, string.find, string.byte
local function slotOf(key)
  local first, last = 1, #key
  local open = find(key, '{', 1, true)
  local close = open and find(key, '}', open + 1, true)
  if close and close > open + 1 then first, last = open + 1, close - 1 end
  local crc = 0
  for at = first, last do
    local low = crc % 256
    crc = bxor(low * 256, crcs[bxor((crc - low) / 256, bytes(key, at))])
  end
  return crc % 16384
end
local function sweepKeys()
  local cursor = '0'
  repeat
    local page = redis.call('SCAN', cursor, 'COUNT', 1000)
    local keys = {}
    for _, key in ipairs(page[2]) do
      if wanted[slotOf(key)] then keys[#keys + 1] = key end
    end
    remove(keys)
    cursor = page[1]
  until cursor == '0'
end
local isCluster = find(redis.call('INFO', 'cluster'), 'cluster_enabled:1', 1, true)
for database in string.gmatch(redis.call('INFO', 'keyspace'), 'db(%d+):keys=') do
  redis.call('SELECT', database)
  if isCluster then sweepSlots() else sweepKeys() end
end
return removed`;

const EVAL = Buffer.from("EVAL");
const NO_KEYS = Buffer.from("0");

/**
 * The command in an append-only file that removes every key of these slots which was there before it, whether or not
 * the server that loads it is one of a cluster. The database that the file works in stays selected.
 */
export function sweepCommand(ranges: readonly SlotRange[]): Words {
  const slots = ranges.flat().map((slot) => Buffer.from(String(slot)));
  return [EVAL, Buffer.from(SWEEP), NO_KEYS, ...slots];
}
