// Package cloud says what calls of AWS come to: what they are about, what a policy in
// one lets in, what a task definition in one may do, what a security group is opened
// for. Rules of detection name it as fields (see package rule).
//
// What it reads was written by whoever called: it is bounded, and what can't be read is
// empty.
package cloud

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/untrusted"
)

// Bounds of what is read of one part of a call. CloudTrail cuts records at 256 KiB.
const (
	maxBytes  = 256 << 10
	maxParams = 2_000
	maxDepth  = 24
	maxValue  = 1_024 // bytes of a value: longer ones are documents, which are looked at apart
)

// Params makes lines of a part of a call: path=value, without the places in lists:
// containerDefinitions.privileged=true.
func Params(raw json.RawMessage) []string {
	var out []string
	walk(raw, func(path string, v any) {
		if len(out) >= maxParams {
			return
		}
		if text, ok := scalar(v); ok {
			out = append(out, path+"="+untrusted.Clip(text, maxValue))
		}
	})
	return out
}

// walk calls do for all that is in a document, parents before their children.
func walk(raw json.RawMessage, do func(path string, v any)) {
	v, ok := read(raw)
	if !ok {
		return
	}
	left := maxParams * 8 // nodes, of which lines are some
	var visit func(path string, v any, depth int)
	visit = func(path string, v any, depth int) {
		if left--; left < 0 || depth > maxDepth {
			return
		}
		do(path, v)
		switch v := v.(type) {
		case map[string]any:
			for _, k := range sortedKeys(v) {
				visit(join(path, k), v[k], depth+1)
			}
		case []any:
			for _, x := range v {
				visit(path, x, depth+1)
			}
		}
	}
	visit("", v, 0)
}

func read(raw json.RawMessage) (any, bool) {
	if len(raw) == 0 || len(raw) > maxBytes {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return nil, false
	}
	return v, true
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

// Values returns what lines have under a name: that is the path, or its end, in any
// case of letters, since services differ in how deep and in which case they write.
func Values(lines []string, name string) []string {
	var out []string
	for _, l := range lines {
		path, value, ok := strings.Cut(l, "=")
		if !ok || len(path) < len(name) {
			continue
		}
		end := len(path) - len(name)
		if strings.EqualFold(path[end:], name) && (end == 0 || path[end-1] == '.') {
			out = append(out, value)
		}
	}
	return out
}

// targets are the names under which calls have what they are about, the surest first.
var targets = []string{
	"secretId", "repositoryName", "logGroupName", "bucketName", "functionName", "keyId", "roleName", "userName", "groupName",
	"instanceProfileName", "policyArn", "family", "service", "serviceName", "taskDefinition", "task", "cluster", "clusterName", "trailName", "instanceId",
	"instancesSet.items.instanceId", "groupId", "snapshotId", "imageId", "dBSnapshotIdentifier", "dBClusterSnapshotIdentifier", "detectorId", "resourceId", "flowLogId", "name", "queueUrl", "topicArn", "arn",
	"dBInstanceIdentifier", "dBClusterIdentifier", "projectName", "notebookInstanceName", "endpointName", "identityPoolId", "tableArn", "resourceArn", "roleArn",
}

// Target returns what a call is about, by its name in the request: a repository, a
// role, a secret. Empty where none is known.
func Target(request []string) string {
	for _, name := range targets {
		for _, v := range Values(request, name) {
			if v != "" {
				return v
			}
		}
	}
	return ""
}

// Tool returns the family of the program that a user agent names: what stays the same
// from version to version of it.
func Tool(agent string) string {
	a := strings.ToLower(strings.TrimLeft(agent, "[ "))
	for _, t := range tools {
		if strings.Contains(a, t.part) {
			return t.name
		}
	}
	word, _, _ := strings.Cut(a, " ")
	word, _, _ = strings.Cut(word, "/")
	return untrusted.Clip(strings.Trim(word, "[]"), 64)
}

// tools are in the order in which they are looked for: what is built upon an SDK names
// both.
var tools = []struct{ part, name string }{
	{"terraform", "terraform"}, {"pulumi", "pulumi"}, {"stratus-red-team", "stratus-red-team"}, {"pacu", "pacu"}, {"cloudfox", "cloudfox"},
	{"scoutsuite", "scoutsuite"}, {"prowler", "prowler"}, {"amazon-ssm-agent", "amazon-ssm-agent"}, {"amazon ecs agent", "ecs-agent"}, {"ecs-agent", "ecs-agent"},
	{"aws-cli", "aws-cli"}, {"powershell", "powershell"}, {"boto3", "boto"}, {"botocore", "boto"}, {"aws-sdk-go", "aws-sdk-go"}, {"aws-sdk-java", "aws-sdk-java"},
	{"aws-sdk-js", "aws-sdk-js"}, {"aws-sdk-nodejs", "aws-sdk-js"}, {"aws-sdk-rust", "aws-sdk-rust"}, {"aws-sdk-dotnet", "aws-sdk-dotnet"}, {"aws-sdk-php", "aws-sdk-php"},
	{"aws-sdk-ruby", "aws-sdk-ruby"}, {"aws-sdk-cpp", "aws-sdk-cpp"}, {"aws-sdk-kotlin", "aws-sdk-kotlin"}, {"aws-sdk-swift", "aws-sdk-swift"},
	{"console.", "console"}, {"mozilla/", "browser"}, {"curl/", "curl"}, {"docker/", "docker"},
}
