function export_humaneva(num_joints, output)
% Export HumanEva-I's labels for prepare_data_humaneva.py. For MATLAB and Octave alike.
%
%     cd RELEASE_CODE                      % the dataset's own toolbox, where it finds the dataset
%     addpath(genpath(pwd));
%     addpath('REPOSITORY/data');
%     export_humaneva(15);                 % or 20; writes converted_15j/Train/S1/Walking_1.mat and so on
%
% Then: python prepare_data_humaneva.py -p RELEASE_CODE/converted_15j --convert-3d
%
% It expects HumanEva's release code with the classes he_dataset, sync_stream, mocap_stream and body_pose, and the
% calibration files <person>/Calibration_Data/C1.cal and so on. It is written after the toolbox's documentation: where
% your version names something otherwise, what is asked of it is in the three functions at the end.

if nargin < 1, num_joints = 15; end
if nargin < 2, output = sprintf('converted_%dj', num_joints); end

% Person, take, and a < b < c: Validate has the frames a to b - 1 of the synchronised take, Train those from b to c - 1.
takes = {
    'S1', 'Walking_1', 5, 590, 1203
    'S1', 'Jog_1', 5, 367, 740
    'S1', 'ThrowCatch_1', 5, 473, 945
    'S1', 'Gestures_1', 5, 395, 801
    'S1', 'Box_1', 5, 385, 789
    'S2', 'Walking_1', 5, 438, 876
    'S2', 'Jog_1', 5, 398, 795
    'S2', 'ThrowCatch_1', 5, 550, 1128
    'S2', 'Gestures_1', 5, 500, 901
    'S2', 'Box_1', 5, 382, 734
    'S3', 'Walking_1', 5, 448, 939
    'S3', 'Jog_1', 5, 401, 842
    'S3', 'ThrowCatch_1', 5, 493, 1027
    'S3', 'Gestures_1', 5, 533, 1102
    'S3', 'Box_1', 5, 512, 1021
};
splits = {'Validate', 'Train'};
written = 0;
for s = 1:2
    sequences = he_dataset('HumanEvaI', splits{s});
    for q = 1:length(sequences)
        [person, take] = name_of(sequences(q));
        row = find(strcmp(takes(:, 1), person) & strcmp(takes(:, 2), take));
        if isempty(row), continue, end
        first = takes{row, 2 + s};
        last = takes{row, 3 + s} - 1;
        [poses_3d, poses_2d] = labels_of(sequences(q), person, first, last, joint_fields(num_joints));
        folder = output;
        make_folder(folder);
        folder = fullfile(folder, splits{s});
        make_folder(folder);
        folder = fullfile(folder, person);
        make_folder(folder);
        save(fullfile(folder, [take '.mat']), 'poses_3d', 'poses_2d', '-v7');
        whole = sum(all(all(isfinite(poses_3d), 2), 3));
        fprintf('%s %s %s: %d frames, %d of them whole\n', splits{s}, person, take, last - first + 1, whole);
        written = written + 1;
    end
end
fprintf('%d of 30 takes are in %s\n', written, output);
end

function make_folder(folder)
if exist(folder, 'dir') == 0, mkdir(folder); end
end

function fields = joint_fields(num_joints)
% The ends of limbs in a body_pose that are our joints, in their order.
arms = {'upper%sArmProximal', 'upper%sArmDistal', 'lower%sArmDistal'};
legs = {'upper%sLegProximal', 'upper%sLegDistal', 'lower%sLegDistal'};
head = {'headDistal'};
if num_joints == 20
    arms = [arms, {'%sHandDistal'}];
    legs = [legs, {'%sFootDistal'}];
    head = {'headProximal', 'headDistal'};
elseif num_joints ~= 15
    error('there are 15 or 20 joints');
end
limbs = [strrep(arms, '%s', 'L'), strrep(arms, '%s', 'R'), strrep(legs, '%s', 'L'), strrep(legs, '%s', 'R')];
fields = [{'torsoDistal', 'torsoProximal'}, limbs, head];
end

% --- what is asked of the toolbox ---

function [person, take] = name_of(sequence)
% 'S1' and 'Walking_1' of one sequence.
person = char(get(sequence, 'SubjectName'));
trial = get(sequence, 'Trial');
if isnumeric(trial), trial = num2str(trial); end
take = [char(get(sequence, 'ActionType')) '_' char(trial)];
end

function [poses_3d, poses_2d] = labels_of(sequence, person, first, last, fields)
% Millimetres (frames, joints, 3) and pixels (3, frames, joints, 2); NaN where the toolbox calls a pose invalid.
frames = last - first + 1;
poses_3d = nan(frames, numel(fields), 3);
poses_2d = nan(3, frames, numel(fields), 2);
[images, images_enabled, mocap, mocap_enabled] = sync_stream(sequence);
base = char(get(sequence, 'DatasetBasePath'));
for f = 1:frames
    [mocap, pose, valid] = cur_frame(mocap, first + f - 1, 'body_pose');
    if ~valid, continue, end
    poses_3d(f, :, :) = joints_of(pose, fields, 3);
    for c = 1:3
        calibration = fullfile(base, person, 'Calibration_Data', sprintf('C%d.cal', c));
        poses_2d(c, f, :, :) = joints_of(project2d(pose, calibration), fields, 2);
    end
end
end

function joints = joints_of(pose, fields, coordinates)
% The ends of limbs (joints, coordinates) of a body_pose, in space or projected; NaN where one is empty.
joints = nan(numel(fields), coordinates);
for j = 1:numel(fields)
    value = get(pose, fields{j});
    if numel(value) >= coordinates, joints(j, :) = value(1:coordinates); end
end
end
