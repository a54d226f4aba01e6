package authz

import (
	"encoding/json"
)

// words is a list that may also be written as one word, as commands may.
type words []string

// UnmarshalJSON takes both forms.
func (w *words) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		var one string
		if err := json.Unmarshal(b, &one); err != nil {
			return err
		}
		*w = words{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(w))
}

// ignored is a field that says nothing about what a container may do to others.
// It is named so that fields that nobody here knows stand out.
type ignored = json.RawMessage

// creation is the body of a call that makes a container: all fields that
// engines take from API 1.21 to 1.56.
type creation struct {
	containerConfig
	HostConfig       *hostConfig
	NetworkingConfig *struct {
		EndpointsConfig map[string]*endpoint
	}
}

// containerConfig is Docker's Config.
type containerConfig struct {
	User         string
	Env          []string
	Cmd          words
	Entrypoint   words
	Image        string
	Labels       map[string]string
	ExposedPorts map[string]struct{}
	Healthcheck  *health
	Volumes      map[string]struct{}
	WorkingDir   string

	Hostname, Domainname, AttachStdin, AttachStdout, AttachStderr, Tty, OpenStdin, StdinOnce          ignored
	ArgsEscaped, NetworkDisabled, MacAddress, OnBuild, StopSignal, StopTimeout, Shell, PublishService ignored
}

// health is how the engine asks a container for its health.
type health struct {
	Test words

	Interval, Timeout, StartPeriod, StartInterval, Retries ignored
}

// hostConfig is Docker's HostConfig.
type hostConfig struct {
	resources
	Binds         []string
	Mounts        []mount
	VolumesFrom   []string
	VolumeDriver  string
	Tmpfs         map[string]string
	CapAdd        words
	CapDrop       words
	Capabilities  words // instead of the engine's own list; for a while in API 1.40
	GroupAdd      []string
	SecurityOpt   []string
	Privileged    bool
	PidMode       string
	IpcMode       string
	UTSMode       string
	UsernsMode    string
	CgroupnsMode  string
	NetworkMode   string
	Runtime       string
	Sysctls       map[string]string
	Annotations   map[string]string
	StorageOpt    map[string]string
	MaskedPaths   *[]string
	ReadonlyPaths *[]string

	Links           []string
	ExtraHosts      []string
	OomScoreAdj     int64
	PortBindings    map[string][]binding
	PublishAllPorts bool
	ReadonlyRootfs  bool
	RestartPolicy   *restart
	LogConfig       struct {
		Type   string
		Config map[string]string
	}

	ContainerIDFile, AutoRemove, ConsoleSize, Cgroup, ShmSize, Umask, Isolation, Init, InitPath ignored

	DNS        ignored `json:"Dns"`
	DNSOptions ignored `json:"DnsOptions"`
	DNSSearch  ignored `json:"DnsSearch"`
	LxcConf    ignored
}

// resources are what a container may use, also of a call that changes them.
type resources struct {
	Memory            int64
	NanoCPUs          int64 `json:"NanoCpus"`
	CPUShares         int64 `json:"CpuShares"`
	CPUQuota          int64 `json:"CpuQuota"`
	CPUPeriod         int64 `json:"CpuPeriod"`
	PidsLimit         *int64
	CgroupParent      string
	Devices           []device
	DeviceCgroupRules []string
	DeviceRequests    []deviceRequest
	Ulimits           []ulimit

	MemoryReservation, MemorySwap, MemorySwappiness, KernelMemory, KernelMemoryTCP, OomKillDisable                  ignored
	BlkioWeight, BlkioWeightDevice, BlkioDeviceReadBps, BlkioDeviceWriteBps                                         ignored
	BlkioDeviceReadIOps, BlkioDeviceWriteIOps, CpusetCpus, CpusetMems, DiskQuota, IOMaximumIOps, IOMaximumBandwidth ignored

	CPURealtimePeriod  ignored `json:"CpuRealtimePeriod"`
	CPURealtimeRuntime ignored `json:"CpuRealtimeRuntime"`
	CPUCount           ignored `json:"CpuCount"`
	CPUPercent         ignored `json:"CpuPercent"`
}

type device struct{ PathOnHost, PathInContainer, CgroupPermissions string }

type deviceRequest struct {
	Driver       string
	Count        int
	DeviceIDs    []string
	Capabilities [][]string
	Options      map[string]string
}

type ulimit struct {
	Name       string
	Hard, Soft int64
}

type binding struct {
	HostIP   string `json:"HostIp"`
	HostPort string
}

type restart struct {
	Name              string
	MaximumRetryCount int
}

type mount struct {
	Type, Source, Target string
	ReadOnly             bool
	BindOptions          *struct {
		Propagation string

		NonRecursive, CreateMountpoint, ReadOnlyNonRecursive, ReadOnlyForceRecursive ignored
	}
	VolumeOptions *struct {
		DriverConfig *struct {
			Name    string
			Options map[string]string
		}

		NoCopy, Labels, Subpath ignored
	}

	Consistency, ImageOptions, TmpfsOptions, ClusterOptions ignored
}

// endpoint is how a container is on a network. The network's name matters, and
// what its driver is asked for: settings of the kernel are among that.
type endpoint struct {
	DriverOpts map[string]string

	IPAMConfig, Links, Aliases, GwPriority, NetworkID, EndpointID, Gateway, IPAddress, MacAddress ignored
	IPPrefixLen, IPv6Gateway, GlobalIPv6Address, GlobalIPv6PrefixLen, DNSNames                    ignored
}

// execution is the body of a call that prepares a process in a container.
type execution struct {
	User, WorkingDir string
	Privileged, Tty  bool
	Cmd              words
	Env              []string

	AttachStdin, AttachStdout, AttachStderr, Detach, DetachKeys, ConsoleSize, Container ignored
}

// updating is the body of a call that changes a container.
type updating struct {
	resources
	RestartPolicy *restart
}

// volumeCreation, networkCreation and connection are bodies of the calls that
// make volumes and networks and put a container on one.
type volumeCreation struct {
	Name, Driver string
	DriverOpts   map[string]string

	Labels, ClusterVolumeSpec ignored
}

type networkCreation struct {
	Name, Driver, Scope string
	Options             map[string]string
	ConfigFrom          *struct{ Network string }

	EnableIPv4, EnableIPv6, IPAM, Internal, Attachable, Ingress, ConfigOnly, Labels, CheckDuplicate ignored
}

type connection struct {
	Container      string
	EndpointConfig *endpoint
}
