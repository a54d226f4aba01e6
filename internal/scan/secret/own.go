package secret

// look is a rule of our own: what it does where one of its words stands. It sees
// texts only, never programs.
type look struct {
	words []string
	look  func(s *sifting, at int)
}

// ownLooks lists them.
func ownLooks() []look {
	return append([]look{
		{[]string{"://"}, (*sifting).urlCredentials},
		{nameWords(), (*sifting).namedValue},
		{[]string{"putty-user-key-file-"}, (*sifting).puttyKey},
		{[]string{`"auth"`}, (*sifting).dockerAuth},
		{[]string{"_authtoken", "_auth"}, (*sifting).npmAuth},
		{[]string{"client-key-data"}, (*sifting).kubeKey},
		{[]string{`"kty"`}, (*sifting).webKey},
		{[]string{"machine "}, (*sifting).netrcLine},
		{[]string{"@tcp(", "@unix("}, (*sifting).sourceNameAt},
		{[]string{"chpasswd"}, (*sifting).pipedTo},
		{[]string{"bearer "}, (*sifting).bearerToken},
		{[]string{"/api/webhooks/"}, (*sifting).discordHook},
	}, positionals()...)
}

// The ids of our own rules.
const (
	ruleURL       = "url-credentials"
	rulePassword  = "password"
	ruleToken     = "token"
	ruleKey       = "secret-key"
	ruleAWSSecret = "aws-secret-access-key"
	rulePuTTY     = "putty-private-key"
	ruleDocker    = "docker-registry-credentials"
	ruleNPM       = "npm-registry-credentials"
	ruleKubeKey   = "kubeconfig-client-key"
	ruleNetrc     = "netrc-password"
	ruleWebKey    = "json-web-key"
)

// titles say what our own rules find.
var titles = map[string]string{
	ruleURL:       "URL with a user's password",
	rulePassword:  "Password",
	ruleToken:     "Token",
	ruleKey:       "Secret key",
	ruleAWSSecret: "AWS secret access key",
	rulePuTTY:     "Private key of PuTTY",
	ruleDocker:    "Credentials of a container registry",
	ruleNPM:       "Credentials of an npm registry",
	ruleKubeKey:   "Private key of a Kubernetes client",
	ruleNetrc:     "Password for a host, in a netrc file",
	ruleWebKey:    "Private key, as a JSON web key",
}

// add keeps something that a rule of our own found, unless the place is allowed.
func (s *sifting) add(rule, name, value, doubt string, at int) *found {
	if s.allowedPath() {
		return nil
	}
	line := s.lineAround(at, min(len(s.buf), at+len(value)))
	return s.keep(found{rule: rule, own: true, name: name, value: value, doubt: doubt, allowed: allowanceIn(line)}, at, at)
}
