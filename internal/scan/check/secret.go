package check

import (
	"slices"
	"strings"
	"unicode"

	"github.com/castellan-security/castellan/internal/scan/blueprint"
)

// secretIn says what kind of secret a variable holds, "" for none. Values are
// looked at and never shown.
func secretIn(name, value blueprint.Text) string {
	if !name.Known() || !value.Known() || value.V == "" {
		return ""
	}
	if kind := secretByValue(value.V); kind != "" {
		return kind
	}
	if word := secretName(name.V); word != "" && literalSecret(word, value.V) {
		return "a " + word
	}
	return ""
}

// These are secrets whatever their name: what they look like tells.
var (
	awsKey      = lazily(`\b(AKIA|ASIA)[A-Z2-7]{16}\b`)
	privateKey  = lazily(`-----BEGIN [A-Z ]*PRIVATE KEY-----`)
	knownToken  = lazily(`\b(ghp_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,}|glpat-[A-Za-z0-9_-]{20}|xox[abprs]-[A-Za-z0-9-]{10,}|sk_live_[A-Za-z0-9]{20,}|SG\.[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{40,})`)
	credentials = lazily(`[a-z][a-z0-9+.-]*://[^\s:/@"']*:([^\s:/@"']+)@[A-Za-z0-9\[]`)
)

func secretByValue(v string) string {
	switch {
	case len(v) > maxValue:
		return ""
	case awsKey().MatchString(v) && !strings.Contains(v, "EXAMPLE"):
		return "an AWS access key"
	case privateKey().MatchString(v):
		return "a private key"
	case knownToken().MatchString(v):
		return "a token"
	}
	if m := credentials().FindStringSubmatch(v); m != nil && !placeholder(m[1]) {
		return "an address with a password"
	}
	return ""
}

// maxValue bounds what is looked at: ECS takes 32 KiB of environment.
const maxValue = 64 << 10

// secretName says which kind of secret a variable's name promises, "" for none.
func secretName(name string) string {
	words := split(name)
	if len(words) == 0 {
		return ""
	}
	// A name that goes on names something about the secret: where it is, how long
	// it lasts.
	if slices.Contains(aboutSecrets, words[len(words)-1]) || slices.ContainsFunc(words, func(w string) bool { return slices.Contains(switches, w) }) {
		return ""
	}
	has := func(w string) bool { return slices.Contains(words, w) }
	joined := strings.ReplaceAll(strings.Join(words, ""), "HTPASSWD", "") // a file's name
	switch {
	case strings.Contains(joined, "PASSWORD") || strings.Contains(joined, "PASSWD") || has("PASS") || len(words) > 1 && words[len(words)-1] == "PWD":
		return "password"
	case strings.Contains(joined, "PASSPHRASE"):
		return "passphrase"
	case has("SECRET") || has("SECRETS") || strings.HasSuffix(joined, "SECRET"):
		return "secret"
	case has("TOKEN") || strings.HasSuffix(joined, "TOKEN"):
		return "token"
	case strings.HasSuffix(joined, "APIKEY"), has("KEY") && (has("ACCESS") || has("PRIVATE") || has("ENCRYPTION") || has("SIGNING") || has("MASTER") || has("API") || has("AUTH") || has("LICENSE") || has("ACCOUNT")):
		return "key"
	case has("CREDENTIAL") || has("CREDENTIALS"):
		return "credential"
	}
	return ""
}

// aboutSecrets are last words of names that are about a secret and not one.
var aboutSecrets = strings.Fields("FILE FILES PATH DIR ARN ARNS NAME NAMES ID IDS URL URI ENDPOINT HOST PORT TTL EXPIRY EXPIRES EXPIRATION TIMEOUT LENGTH SIZE LIFETIME TYPE " +
	"ALGORITHM ALG HEADER POLICY ENABLED DISABLED REQUIRED PREFIX SUFFIX VERSION COUNT MAX MIN ISSUER AUDIENCE REGION FIELD PARAM PARAMETER COOKIE PROVIDER SECONDS MINUTES HOURS DAYS " +
	"AGE ROTATION MODE FORMAT SCOPE SCOPES METHOD STORE BACKEND MANAGER SERVICE ROLE USER USERNAME KEYS RETRIES INTERVAL LIMIT ENCODING ENV VAR SOURCE REF LOCATION BUCKET VALIDITY DURATION REALM CLASS LABEL TITLE TEXT HINT REGEX PATTERN RULES STRENGTH HASHER")

// switches are words of names that say whether there is a secret, and of what is
// none.
var switches = strings.Fields("PUBLIC DISABLED DISABLE NO SKIP ASK ALLOW EMPTY REQUIRE REQUIRES USE WITHOUT ENABLE WITH PROMPT FORGOT RESET CHANGE VALIDATE VERIFY")

// split takes a name apart at underscores, dashes, dots and humps.
func split(name string) []string {
	var words []string
	var b strings.Builder
	flush := func() {
		if b.Len() > 0 {
			words = append(words, strings.ToUpper(b.String()))
			b.Reset()
		}
	}
	previous := rune(0)
	for _, r := range name {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			flush()
			previous = 0
			continue
		case unicode.IsUpper(r) && unicode.IsLower(previous):
			flush()
		}
		b.WriteRune(r)
		previous = r
	}
	flush()
	return words
}

// literalSecret says that a value can be a secret of the kind, and is no word for
// one that comes from elsewhere.
func literalSecret(kind, v string) bool {
	v = strings.TrimSpace(v)
	if len(v) > maxValue || placeholder(v) {
		return false
	}
	if strings.Trim(v, "0123456789.") == "" { // a number is a password at most
		return kind == "password" && len(v) >= 4
	}
	return kind == "password" || len(v) >= 6
}

// placeholder says that a value stands for one that is put in its place, or is a
// setting.
func placeholder(v string) bool {
	low := strings.ToLower(strings.TrimSpace(v))
	if strings.Trim(low, "*x.-_") == "" {
		return true
	}
	for _, begin := range []string{"${", "$(", "$", "{{", "<", "%(", "%{", "arn:", "/", "./", "file:", "vault:", "ssm:", "secretsmanager:", "secret:", "aws:", "env:", "op://", "sops:", "http://", "https://",
		"replace", "your-", "your_", "yourpass", "todo", "fixme", "changeit-", "insert", "placeholder", "redacted", "dummy", "ref+", "projects/"} {
		if strings.HasPrefix(low, begin) {
			return true
		}
	}
	if strings.Contains(low, "${") || strings.Contains(low, "{{") || strings.Contains(low, "<%") {
		return true
	}
	return slices.Contains([]string{"true", "false", "yes", "no", "on", "off", "none", "null", "nil", "undefined", "default", "disabled", "enabled", "required", "optional", "auto",
		"empty", "bearer", "basic", "jwt", "header", "cookie", "string", "secret", "token", "n/a", "unset", "see-secrets-manager"}, low)
}

// found is a secret in a list of words.
type found struct {
	word       int
	name, kind string
}

// secretsInWords finds secrets among the words of a command: --password=X,
// --password X, NAME=X, and addresses with a password.
func secretsInWords(words []string) []found {
	var out []found
	for i, w := range words {
		if len(w) > maxValue {
			continue
		}
		name, value, assigned := strings.Cut(w, "=")
		option := strings.HasPrefix(name, "-")
		switch {
		case secretByValue(w) != "":
			out = append(out, found{i, firstWord(strings.TrimLeft(name, "-")), secretByValue(w)})
		case strings.ContainsAny(strings.TrimSpace(w), " \n\t") && !assigned, strings.ContainsAny(name, " \n\t"):
			// A command line in one word, as a shell is given it.
			if parts := strings.Fields(w); len(parts) > 1 {
				for _, f := range secretsInWords(parts) {
					f.word = i
					out = append(out, f)
				}
			}
		case assigned:
			value = strings.Trim(value, `"'`)
			if kind := secretName(strings.TrimLeft(name, "-")); kind != "" && literalSecret(kind, value) {
				out = append(out, found{i, strings.TrimLeft(name, "-"), "a " + kind})
			}
		case option && i+1 < len(words) && !strings.HasPrefix(words[i+1], "-"):
			value := strings.Trim(words[i+1], `"'`)
			if kind := secretName(strings.TrimLeft(name, "-")); kind != "" && literalSecret(kind, value) && !strings.HasSuffix(name, "-stdin") {
				out = append(out, found{i + 1, strings.TrimLeft(name, "-"), "a " + kind})
			}
		}
	}
	return out
}

// firstWord names an argument without showing what follows, or what is itself the
// secret.
func firstWord(s string) string {
	if i := strings.IndexFunc(s, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '-' && r != '_' }); i >= 0 {
		s = s[:i]
	}
	if secretByValue(s) != "" || awsKey().MatchString(s) || len(s) > 40 || s == "" {
		return "a word"
	}
	return s
}
