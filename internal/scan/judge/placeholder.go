package judge

import (
	"slices"
	"strings"
)

// Words that stand for a value. Whole ones must be all of it but for signs and
// digits, parts may be anywhere.
var (
	wholePlaceholders = map[string]bool{"changeme": true, "changeit": true, "change": true, "password": true, "passwd": true, "pass": true, "pwd": true, "secret": true,
		"token": true, "string": true, "none": true, "null": true, "nil": true, "true": true, "false": true, "undefined": true, "default": true, "required": true,
		"optional": true, "empty": true, "unset": true, "hidden": true, "value": true, "username": true, "user": true, "root": true, "admin": true, "mypassword": true,
		"yourpassword": true, "thepassword": true, "newpassword": true, "oldpassword": true, "userpassword": true, "dbpassword": true, "testpassword": true,
		"mysecret": true, "yoursecret": true, "mytoken": true, "yourtoken": true, "apikey": true, "yourapikey": true, "secretkey": true, "accesskey": true,
		"secretaccesskey": true, "clientsecret": true, "accesstoken": true, "refreshtoken": true, "authtoken": true, "bearer": true, "bearertoken": true,
		"passphrase": true, "credentials": true, "basic": true, "integer": true, "boolean": true, "object": true, "number": true, "array": true, "text": true,
		"foobar": true, "foo": true, "bar": true, "baz": true, "hunter": true, "disabled": true, "enabled": true, "prompt": true, "confirm": true, "invalid": true,
		"incorrect": true, "missing": true, "expired": true, "unknown": true, "plain": true, "plaintext": true, "test": true, "testing": true, "sha": true, "md": true}
	// stand are parts of what somebody is to replace.
	stand = []string{"your_", "your-", "yourown", "yourpass", "<your", "my_password", "my-password", "placeholder", "redacted",
		"xxxx", "****", "....", "____", "todo", "fixme", "insert_", "insert-", "replace_", "replace-", "replaceme", "enter_", "enter-", "example", "dummy", "sample", "notreal", "not-real",
		"not_real", "fake", "mock", "lorem", "generate_", "generated", "removed", "snip", "secret_here", "goes_here", "goes-here", "_here", "-here", "changeit-", "see-secrets-manager"}
	// changed are parts of what somebody is to replace and many don't.
	changed = []string{"changeme", "change_me", "change-me", "changethis", "change-this", "change_this"}
)

// settings are words that say how something is, and no secret.
var settings = map[string]bool{"true": true, "false": true, "yes": true, "no": true, "on": true, "off": true, "none": true, "null": true, "nil": true, "undefined": true, "default": true,
	"disabled": true, "enabled": true, "required": true, "optional": true, "auto": true, "empty": true, "unset": true, "hidden": true, "bearer": true, "basic": true, "jwt": true, "header": true,
	"cookie": true, "string": true, "integer": true, "boolean": true, "object": true, "number": true, "array": true, "text": true, "value": true, "prompt": true, "confirm": true, "invalid": true,
	"incorrect": true, "missing": true, "expired": true, "unknown": true, "plain": true, "plaintext": true, "n/a": true}

// publicDefaults are passwords that everybody has and that guard nothing: that of
// Java's store of public certificates.
var publicDefaults = map[string]bool{"changeit": true}

func isPlaceholder(low string) bool {
	core := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, low)
	if len(core) > 0 && wholePlaceholders[core] && len(low)-len(core) <= 4 && !strings.ContainsAny(low, "0123456789!@#$%^&*") {
		return true
	}
	return standsFor(low) || hasAny(low, changed)
}

// standsFor says that a value says itself that it is none.
func standsFor(low string) bool {
	return strings.HasPrefix(low, "replace") || strings.HasPrefix(low, "insert") || hasAny(low, stand)
}

func hasAny(s string, parts []string) bool {
	for _, p := range parts {
		if strings.Contains(s, p) {
			return true
		}
	}
	return false
}

// marks are words that examples and tests have in their passwords.
var marks = []string{"test", "demo", "foo", "bar", "passw", "secret", "token", "abc123", "123456", "abcde", "vwxyz", "qwerty", "letmein", "admin", "temp", "invalid", "wrong", "hello", "user", "name", "string", "value", "default"}

func hasMark(low string) bool {
	return hasAny(low, marks) || hasAny(plainly.Replace(low), disguised) || isNumbered(low)
}

// disguised are words that people write with digits and signs for letters, and
// plainly takes those back.
var (
	disguised = []string{"passw", "secret", "letmein"}
	plainly   = strings.NewReplacer("0", "o", "4", "a", "@", "a", "3", "e", "1", "i", "$", "s", "5", "s")
)

// numbered are words that with a number behind them are nobody's.
var numbered = []string{"key", "pass", "password", "secret", "token", "user"}

func isNumbered(low string) bool {
	core := strings.TrimRight(strings.TrimRight(low, "0123456789"), "_-")
	return len(core) < len(low) && slices.Contains(numbered, core)
}

// IsPlaceholder says that a value stands for one that is put in its place.
func IsPlaceholder(value string) bool { return isPlaceholder(strings.ToLower(value)) }

// IsTemplate says that a value is filled in by somebody else later.
func IsTemplate(value string) bool { return value != "" && isTemplate(value) }
