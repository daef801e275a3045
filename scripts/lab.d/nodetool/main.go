// Nodetool runs commands on a lab node and finds its containers.
//
//	nodetool serve ADDRESS TOKENFILE            run commands for those who know the token
//	nodetool run ADDRESS TOKENFILE COMMAND...   run one there; its input, output, signals, exit code
//	nodetool pid TASKS NAMESPACE/POD [CONTAINER]   pid of a container, or of the pod's sandbox
//	nodetool pod TASKS NAMESPACE/POD COMMAND...    run one in the network namespace of a pod
//
// TASKS is the folder in which containerd keeps the bundle of each running task.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// Exit codes of a shell that cannot start a command, and one of our own.
const (
	exitUsage    = 2
	exitNoPod    = 69
	exitNoServer = 125
	exitCannot   = 126
	exitNotFound = 127
)

func main() {
	args := os.Args[1:]
	switch {
	case len(args) == 3 && args[0] == "serve":
		fail(exitNoServer, serve(args[1], args[2]))
	case len(args) >= 4 && args[0] == "run":
		os.Exit(run(args[1], args[2], args[3:]))
	case (len(args) == 3 || len(args) == 4) && args[0] == "pid":
		container := ""
		if len(args) == 4 {
			container = args[3]
		}
		pid, err := findPid(args[1], args[2], container)
		if err != nil {
			fail(exitNoPod, err)
		}
		fmt.Println(pid)
	case len(args) >= 4 && args[0] == "pod":
		pid, err := findPid(args[1], args[2], "")
		if err != nil {
			fail(exitNoPod, err)
		}
		enter(pid, args[3:])
	default:
		fail(exitUsage, fmt.Errorf("nodetool serve|run|pid|pod, see its source"))
	}
}

// enter becomes the command, in the network namespace of pid.
func enter(pid int, command []string) {
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		fail(exitNotFound, err)
	}
	argv := append([]string{"nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", pid)}, command...)
	fail(exitCannot, syscall.Exec(nsenter, argv, os.Environ()))
}

func fail(code int, err error) {
	fmt.Fprintln(os.Stderr, "error:", err)
	os.Exit(code)
}
