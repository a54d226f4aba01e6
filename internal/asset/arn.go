package asset

import "strings"

// Lengths of what an identity is made of, in bytes. ECS itself allows 255 for
// names; the others leave room for longer forms than those of today.
const (
	maxName   = 255
	maxRegion = 32
	maxTaskID = 64
	maxARN    = 3*maxName + 64
	// accountLen is fixed: an AWS account is twelve digits.
	accountLen = 12
)

// ParseTaskARN reads the ARN of an ECS task and returns what it tells: account,
// region, task id and, in the form used since 2018, the cluster. ok is false
// for anything else, however alike, and then e is the zero value.
//
//	arn:aws:ecs:eu-west-1:123456789012:task/cluster/0123456789abcdef0123456789abcdef
//	arn:aws-cn:ecs:cn-north-1:123456789012:task/01234567-89ab-cdef-0123-456789abcdef
func ParseTaskARN(arn string) (e ECS, ok bool) {
	region, account, resource, ok := splitARN(arn)
	if !ok {
		return ECS{}, false
	}
	rest, ok := strings.CutPrefix(resource, "task/")
	if !ok {
		return ECS{}, false
	}
	e = ECS{Account: account, Region: region, TaskARN: arn, TaskID: rest}
	if cluster, id, long := strings.Cut(rest, "/"); long {
		if !WellNamed(cluster) {
			return ECS{}, false
		}
		e.Cluster, e.TaskID = cluster, id
	}
	if len(e.TaskID) > maxTaskID || !WellNamed(e.TaskID) {
		return ECS{}, false
	}
	return e, true
}

// ParseServiceARN reads the ARN of an ECS service, or of one of its deployments or
// revisions, and returns what it tells: account, region, service and, in the form
// used since 2018, the cluster. ok is false for anything else.
//
//	arn:aws:ecs:eu-west-1:123456789012:service/cluster/name
//	arn:aws:ecs:eu-west-1:123456789012:service-revision/cluster/name/9313423515462893900
func ParseServiceARN(arn string) (e ECS, ok bool) {
	region, account, resource, ok := splitARN(arn)
	if !ok {
		return ECS{}, false
	}
	part := strings.Split(resource, "/")
	for _, p := range part[1:] {
		if !WellNamed(p) {
			return ECS{}, false
		}
	}
	e = ECS{Account: account, Region: region}
	switch kind := part[0]; {
	case kind == "service" && len(part) == 2: // the old form
		e.Service = part[1]
	case kind == "service" && len(part) == 3, (kind == "service-revision" || kind == "service-deployment") && len(part) == 4:
		e.Cluster, e.Service = part[1], part[2]
	default:
		return ECS{}, false
	}
	return e, true
}

// ClusterName returns the name of an ECS cluster that is given by name or by
// ARN, and "" if it is neither.
func ClusterName(s string) string {
	if !strings.HasPrefix(s, "arn:") {
		if WellNamed(s) {
			return s
		}
		return ""
	}
	_, _, resource, ok := splitARN(s)
	if !ok {
		return ""
	}
	name, ok := strings.CutPrefix(resource, "cluster/")
	if !ok || !WellNamed(name) {
		return ""
	}
	return name
}

// WellNamed reports whether s can be the name of an ECS cluster, service, task
// family or container. ECS allows letters, digits, hyphens and underscores; its
// own pause container is ~internal~ecs~pause. A slash is never part of a name:
// it is what separates the parts of a Group.
func WellNamed(s string) bool {
	return s != "" && len(s) <= maxName && only(s, func(c byte) bool {
		return isLower(c) || isDigit(c) || 'A' <= c && c <= 'Z' || c == '-' || c == '_' || c == '~' || c == '.'
	})
}

// splitARN takes an ARN of the service ecs apart, in any partition: aws,
// aws-cn, aws-us-gov and those to come.
func splitARN(arn string) (region, account, resource string, ok bool) {
	if len(arn) > maxARN {
		return "", "", "", false
	}
	part := strings.SplitN(arn, ":", 6)
	if len(part) != 6 || part[0] != "arn" || part[2] != "ecs" {
		return "", "", "", false
	}
	partition, region, account := part[1], part[3], part[4]
	word := func(c byte) bool { return isLower(c) || isDigit(c) || c == '-' }
	switch {
	case partition != "aws" && !strings.HasPrefix(partition, "aws-"), !only(partition, word):
		return "", "", "", false
	case region == "" || len(region) > maxRegion || !only(region, word):
		return "", "", "", false
	case len(account) != accountLen || !only(account, isDigit):
		return "", "", "", false
	}
	return region, account, part[5], true
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func only(s string, is func(byte) bool) bool {
	for i := range len(s) {
		if !is(s[i]) {
			return false
		}
	}
	return true
}
