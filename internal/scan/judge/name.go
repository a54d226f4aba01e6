package judge

import (
	"slices"
	"strings"
	"unicode"
)

// ends are how a secret's name ends, without what joins its words.
var ends = []struct {
	end  string
	kind Kind
}{
	{"password", Password}, {"passwd", Password}, {"passphrase", Passphrase}, {"pwd", Password}, {"passw", Password}, {"pass", Password},
	{"secretaccesskey", Key}, {"apikey", Key}, {"accesskey", Key}, {"encryptionkey", Key}, {"signingkey", Key}, {"authkey", Key},
	{"accountkey", Key}, {"appkey", Key}, {"secretkey", Key}, {"secret", Secret}, {"token", Token}, {"credential", Credential}, {"credentials", Credential}, {"secretkeybase", Key},
}

// otherwise are words that end as such names do and mean something else.
var otherwise = []string{"compass", "bypass", "encompass", "trespass", "htpasswd"}

// about are last words of names that are about a secret and not one.
var about = words("FILE FILES PATH DIR ARN ARNS NAME NAMES ID IDS URL URI ENDPOINT HOST PORT TTL EXPIRY EXPIRES EXPIRATION TIMEOUT LENGTH SIZE LIFETIME TYPE " +
	"ALGORITHM ALG HEADER POLICY ENABLED DISABLED REQUIRED PREFIX SUFFIX VERSION COUNT MAX MIN ISSUER AUDIENCE REGION FIELD PARAM PARAMETER COOKIE PROVIDER SECONDS MINUTES HOURS DAYS " +
	"AGE ROTATION MODE FORMAT SCOPE SCOPES METHOD STORE BACKEND MANAGER SERVICE ROLE USER USERNAME KEYS RETRIES INTERVAL LIMIT ENCODING ENV VAR SOURCE REF LOCATION BUCKET VALIDITY DURATION REALM CLASS LABEL TITLE TEXT HINT REGEX PATTERN RULES STRENGTH HASHER")

// switches are words of names that say whether there is a secret, and of what is
// none.
var switches = words("HASHED DUMMY FAKE PUBLIC DISABLED DISABLE NO SKIP ASK ALLOW EMPTY WITHOUT ENABLE PROMPT FORGOT VALIDATE")

// qualifiers are words that make a key one that is secret.
var qualifiers = []string{"ACCESS", "PRIVATE", "ENCRYPTION", "SIGNING", "MASTER", "API", "AUTH", "LICENSE", "ACCOUNT"}

func words(list string) map[string]bool {
	m := map[string]bool{}
	for w := range strings.FieldsSeq(list) {
		m[w] = true
	}
	return m
}

// joiners are what joins the words of a name.
var joiners = strings.NewReplacer("_", "", "-", "", ".", "", " ", "")

// Name says which kind of secret a name promises, "" for none.
func Name(name string, at Place) Kind {
	low := strings.TrimRight(strings.ToLower(joiners.Replace(name)), "0123456789")
	kind := Kind("")
	for _, e := range ends {
		if strings.HasSuffix(low, e.end) {
			kind = e.kind
			break
		}
	}
	if kind == "" && at != Own {
		return ""
	}
	parts := split(name)
	if len(parts) == 0 || slices.ContainsFunc(parts, func(w string) bool { return switches[w] }) ||
		slices.ContainsFunc(otherwise, func(w string) bool { return strings.HasSuffix(low, w) }) {
		return ""
	}
	if at == Own && (low == "pwd" || low == "oldpwd") {
		return "" // a shell's folders
	}
	if kind == "" {
		return within(parts)
	}
	return kind
}

// within says which kind of secret is named somewhere in a name that goes on: of
// DB_PASSWORD_MAIN. What is about a secret is none.
func within(parts []string) Kind {
	if about[parts[len(parts)-1]] {
		return ""
	}
	has := func(list ...string) bool {
		return slices.ContainsFunc(list, func(w string) bool { return slices.Contains(parts, w) })
	}
	joined := strings.ReplaceAll(strings.Join(parts, ""), "HTPASSWD", "") // a file's name
	switch {
	case strings.Contains(joined, "PASSWORD"), strings.Contains(joined, "PASSWD"), has("PASS"):
		return Password
	case strings.Contains(joined, "PASSPHRASE"):
		return Passphrase
	case has("SECRET", "SECRETS"):
		return Secret
	case has("TOKEN"):
		return Token
	case has("KEY") && has(qualifiers...):
		return Key
	case has("CREDENTIAL", "CREDENTIALS"):
		return Credential
	}
	return ""
}

// maxName bounds a name that is taken apart.
const maxName = 256

// split takes a name apart at underscores, dashes, dots and humps, in capitals.
func split(name string) []string {
	if len(name) > maxName {
		name = name[len(name)-maxName:]
	}
	var parts []string
	var b strings.Builder
	flush := func() {
		if b.Len() > 0 {
			parts = append(parts, strings.ToUpper(b.String()))
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
	return parts
}
