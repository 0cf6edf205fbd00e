-- The lists of users who wait to be sent, by lane: due at a time, or held until one.
local LISTS = {r = {ready = 'rt:ready', held = 'rt:held'}, b = {ready = 'bt:ready', held = 'bt:held'}}
local LIST_NAMES = {'rt:ready', 'rt:held', 'bt:ready', 'bt:held'}
