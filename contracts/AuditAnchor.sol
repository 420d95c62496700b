// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title Roots of audit logs, fixed on a chain
/// @notice A log is known by its id, the SHA-256 of its origin. Its anchors are numbered by epochs that only rise; what was
///         anchored stays as it is: there is no function that changes or removes an anchor, no delegatecall, and nothing to
///         upgrade.
/// @dev    Whoever steals an anchorer's key can anchor garbage in the logs of that anchorer, in new epochs only, and can use
///         up no more than MAX_STEP epochs at a time; the owner then removes the anchorer. Whoever steals the owner's key can
///         appoint anchorers and pause; the anchors made so far stay as they are.
contract AuditAnchor {
    /// @notice What is kept of an anchor. Two storage slots.
    struct Anchor {
        // Root of the Merkle tree over the newest checkpoints of all tenants.
        bytes32 root;
        // Number of leaves of that tree.
        uint64 size;
        // When the batch was made, by the database's clock, in seconds since 1970-01-01T00:00:00Z.
        uint64 batchTime;
        // By the block, in seconds; never 0, so 0 says that there is no such anchor.
        uint64 anchoredAt;
        uint64 blockNumber;
    }

    /// @notice State of one log. One storage slot, written when its first anchorer is appointed, so that the first anchor
    ///         costs as much as any other.
    struct Log {
        uint64 latestEpoch;
        bool known;
    }

    /// @notice An epoch is at most this much above the last one of its log.
    uint64 public constant MAX_STEP = 1_000_000;

    address public owner;
    bool public paused;
    address public pendingOwner;

    mapping(bytes32 logId => Log) private logs;
    mapping(bytes32 logId => mapping(address anchorer => bool)) private anchorers;
    mapping(bytes32 logId => mapping(uint64 epoch => Anchor)) private anchors;

    event Anchored(
        bytes32 indexed logId,
        uint64 indexed epoch,
        address indexed anchorer,
        bytes32 root,
        uint64 size,
        uint64 batchTime
    );
    event AnchorerSet(bytes32 indexed logId, address indexed anchorer, bool allowed);
    event OwnershipOffered(address indexed owner, address indexed pendingOwner);
    event OwnershipTaken(address indexed previousOwner, address indexed owner);
    event Paused(address indexed by);
    event Unpaused(address indexed by);

    error NotOwner(address caller);
    error NotPendingOwner(address caller);
    error NotAnchorer(bytes32 logId, address caller);
    error EpochNotRising(uint64 latestEpoch, uint64 epoch);
    error EpochTooFar(uint64 latestEpoch, uint64 epoch);
    error EmptyRoot();
    error EmptyBatch();
    error IsPaused();
    error IsNotPaused();
    error ZeroAddress();

    modifier onlyOwner() {
        if (msg.sender != owner) revert NotOwner(msg.sender);
        _;
    }

    /// @param firstOwner who may appoint anchorers and pause
    /// @param logId      the log of the first anchorer
    /// @param anchorer   who may anchor in that log; the zero address appoints nobody yet
    constructor(address firstOwner, bytes32 logId, address anchorer) {
        if (firstOwner == address(0)) revert ZeroAddress();
        owner = firstOwner;
        emit OwnershipTaken(address(0), firstOwner);
        if (anchorer != address(0)) _setAnchorer(logId, anchorer, true);
    }

    /// @notice Fixes the root of one batch.
    /// @param logId     the log
    /// @param epoch     above every earlier epoch of the log, by MAX_STEP at most
    /// @param root      root of the batch, not zero
    /// @param size      number of leaves of the batch, not 0
    /// @param batchTime when the batch was made, in seconds
    function anchor(bytes32 logId, uint64 epoch, bytes32 root, uint64 size, uint64 batchTime) external {
        if (paused) revert IsPaused();
        if (!anchorers[logId][msg.sender]) revert NotAnchorer(logId, msg.sender);
        if (root == bytes32(0)) revert EmptyRoot();
        if (size == 0) revert EmptyBatch();
        uint64 latestEpoch = logs[logId].latestEpoch;
        if (epoch <= latestEpoch) revert EpochNotRising(latestEpoch, epoch);
        if (epoch - latestEpoch > MAX_STEP) revert EpochTooFar(latestEpoch, epoch);
        logs[logId].latestEpoch = epoch;
        anchors[logId][epoch] = Anchor(root, size, batchTime, uint64(block.timestamp), uint64(block.number));
        emit Anchored(logId, epoch, msg.sender, root, size, batchTime);
    }

    /// @notice The anchor of an epoch; all zeros if there is none.
    function anchorOf(bytes32 logId, uint64 epoch) external view returns (Anchor memory) {
        return anchors[logId][epoch];
    }

    /// @notice The newest anchor of a log, and its epoch; all zeros if there is none.
    function latest(bytes32 logId) external view returns (uint64 epoch, Anchor memory newest) {
        epoch = logs[logId].latestEpoch;
        newest = anchors[logId][epoch];
    }

    /// @notice Whether an address may anchor in a log.
    function isAnchorer(bytes32 logId, address anchorer) external view returns (bool) {
        return anchorers[logId][anchorer];
    }

    /// @notice Appoints or removes an anchorer of one log. To rotate a key: appoint the new one, then remove the old one.
    function setAnchorer(bytes32 logId, address anchorer, bool allowed) external onlyOwner {
        if (anchorer == address(0)) revert ZeroAddress();
        _setAnchorer(logId, anchorer, allowed);
    }

    /// @notice Nothing is anchored until unpause().
    function pause() external onlyOwner {
        if (paused) revert IsPaused();
        paused = true;
        emit Paused(msg.sender);
    }

    function unpause() external onlyOwner {
        if (!paused) revert IsNotPaused();
        paused = false;
        emit Unpaused(msg.sender);
    }

    /// @notice First step of handing over: nothing changes until the other side accepts. The zero address withdraws the offer.
    function offerOwnership(address to) external onlyOwner {
        pendingOwner = to;
        emit OwnershipOffered(msg.sender, to);
    }

    /// @notice Second step.
    function acceptOwnership() external {
        if (msg.sender != pendingOwner) revert NotPendingOwner(msg.sender);
        emit OwnershipTaken(owner, msg.sender);
        owner = msg.sender;
        delete pendingOwner;
    }

    function _setAnchorer(bytes32 logId, address anchorer, bool allowed) private {
        anchorers[logId][anchorer] = allowed;
        logs[logId].known = true;
        emit AnchorerSet(logId, anchorer, allowed);
    }
}
